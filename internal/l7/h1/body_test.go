package h1

import (
	"strings"
	"testing"

	"fairlead.io/fairlead/internal/l7/exchange"
)

// TestTrailersThatDoNotTravel: a trailer cannot frame, route or authorise what went before it (RFC 9110 section 6.5.1).
func TestTrailersThatDoNotTravel(t *testing.T) {
	for _, name := range []string{"Content-Length", "Transfer-Encoding", "Host", "Connection", "Upgrade", "Authorization", "Content-Type", "Fairlead-Service"} {
		fields, err := parseTrailers([]byte(name + ": 1\r\nX-Sum: 2\r\n\r\n"))
		if err != nil || len(fields) != 1 || fields[0].Name != "X-Sum" {
			t.Errorf("%s: %v, %v", name, fields, err)
		}
	}
}

// TestLargeTrailer: the limit of a request line is not one of the first trailer.
func TestLargeTrailer(t *testing.T) {
	sum := strings.Repeat("s", 17<<10)
	told, answered, _ := serve([]byte(chunked("0\r\nX-Sum: "+sum+"\r\n\r\n")), 1<<20, exchange.Limits{})
	if !strings.HasPrefix(answered, "HTTP/1.1 204 ") || !strings.Contains(told, sum) {
		t.Errorf("answered %.60q, told %.200q", answered, told)
	}
}
