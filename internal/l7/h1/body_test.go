package h1

import "testing"

// TestTrailersThatDoNotTravel: a trailer cannot frame, route or authorise what went before it (RFC 9110 section 6.5.1).
func TestTrailersThatDoNotTravel(t *testing.T) {
	for _, name := range []string{"Content-Length", "Transfer-Encoding", "Host", "Connection", "Upgrade", "Authorization", "Content-Type", "Fairlead-Service"} {
		fields, err := parseTrailers([]byte(name + ": 1\r\nX-Sum: 2\r\n\r\n"))
		if err != nil || len(fields) != 1 || fields[0].Name != "X-Sum" {
			t.Errorf("%s: %v, %v", name, fields, err)
		}
	}
}
