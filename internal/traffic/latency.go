package traffic

import (
	"math"

	"fairlead.io/fairlead/internal/node/debug"
)

// Success is the share of requests that did not fail, and NaN if there was none.
func (c *Counts) Success() float64 {
	if c.Requests <= 0 {
		return math.NaN()
	}
	return 1 - c.Failures/c.Requests
}

// RPS is requests per second, and NaN if no time is known.
func (c *Counts) RPS() float64 {
	if c.Elapsed <= 0 {
		return math.NaN()
	}
	return c.Requests / c.Elapsed.Seconds()
}

// Quantile estimates a latency in seconds as Prometheus does: linearly within its bucket. NaN without a request.
func (c *Counts) Quantile(q float64) float64 {
	total := 0.0
	for _, n := range c.Latency {
		total += n
	}
	if total == 0 {
		return math.NaN()
	}
	rank, below := q*total, 0.0
	for i, n := range c.Latency {
		if n > 0 && below+n >= rank {
			if i == len(debug.Buckets) {
				return debug.Buckets[i-1] // it was longer, but nobody knows how much
			}
			lower := 0.0
			if i > 0 {
				lower = debug.Buckets[i-1]
			}
			return lower + (debug.Buckets[i]-lower)*(rank-below)/n
		}
		below += n
	}
	return debug.Buckets[len(debug.Buckets)-1]
}
