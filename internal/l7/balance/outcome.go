package balance

// Outcome is what came of a request, as far as it says something about its endpoint. A request that its client gave up
// has none: Drop it.
type Outcome uint8

// The outcomes.
const (
	Succeeded   Outcome = iota // answered, errors of the client's included
	Limited                    // HTTP 429, gRPC RESOURCE_EXHAUSTED: penalised, but no failure
	Failed                     // answered with a failure of the server's
	Unreachable                // no connection, or one that broke before the answer ended
	TimedOut                   // no answer in time
)

// breaks tells whether the breaker counts it as a failure.
func (o Outcome) breaks() bool { return o >= Failed }

// OfHTTP is the outcome of an answer with that status.
func OfHTTP(status int) Outcome {
	switch {
	case status == 429:
		return Limited
	case status >= 500 && status <= 599:
		return Failed
	}
	return Succeeded
}

// OfGRPC is the outcome of an answer with that google.rpc.Code.
func OfGRPC(code uint32) Outcome {
	switch code {
	case 8: // RESOURCE_EXHAUSTED
		return Limited
	case 2, 4, 13, 14, 15: // UNKNOWN, DEADLINE_EXCEEDED, INTERNAL, UNAVAILABLE, DATA_LOSS
		return Failed
	}
	return Succeeded
}
