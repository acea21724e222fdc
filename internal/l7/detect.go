package l7

import "bytes"

// preface of HTTP/2 (RFC 9113 section 3.4).
const h2Preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

const (
	maxMethod = 32
	// detectBytes bounds what is looked at: a request line that is longer still is taken for what it looks like.
	detectBytes = 8 << 10
)

// detect tells what the first bytes of a connection are. KindUnknown means that more bytes would tell.
func detect(b []byte) Kind {
	if len(b) == 0 {
		return KindUnknown
	}
	if b[0] == recordHandshake {
		return detectTLS(b)
	}
	if n := min(len(b), len(h2Preface)); string(b[:n]) == h2Preface[:n] && b[0] == 'P' {
		if n == len(h2Preface) {
			return KindHTTP2
		}
		// "P" and "PR" may as well begin another method.
		if n >= 3 {
			return KindUnknown
		}
	}
	return detectHTTP1(b)
}

func detectTLS(b []byte) Kind {
	switch {
	case len(b) > 1 && b[1] != 3, len(b) > 2 && b[2] > 4:
		return KindTCP
	case len(b) > 5 && b[5] != helloClient:
		return KindTCP
	case len(b) > 5:
		return KindTLS
	}
	return KindUnknown
}

// detectHTTP1 looks for method SP target SP HTTP/1.x.
func detectHTTP1(b []byte) Kind {
	i := 0
	for i < len(b) && i <= maxMethod && isMethod(b[i]) {
		i++
	}
	if i == len(b) && i <= maxMethod {
		return KindUnknown
	}
	if i == 0 || i > maxMethod || b[i] != ' ' {
		return KindTCP
	}
	line := b[i+1:]
	if end := bytes.IndexByte(line, '\n'); end >= 0 {
		line = bytes.TrimSuffix(line[:end], []byte("\r"))
		sp := bytes.LastIndexByte(line, ' ')
		if sp > 0 && bytes.HasPrefix(line[sp+1:], []byte("HTTP/1.")) {
			return KindHTTP1
		}
		return KindTCP
	}
	for _, c := range line {
		if c < ' ' && c != '\r' || c == 0x7f {
			return KindTCP
		}
	}
	if len(b) >= detectBytes {
		return guess(b)
	}
	return KindUnknown
}

// guess decides on bytes that are still ambiguous when no more of them may be waited for.
func guess(b []byte) Kind {
	if k := detect(b[:min(len(b), detectBytes-1)]); k != KindUnknown {
		return k
	}
	if b[0] == recordHandshake {
		return KindTLS
	}
	method, rest, ok := bytes.Cut(b, []byte(" "))
	if ok && knownMethod(string(method)) && (len(rest) == 0 || rest[0] == '/' || rest[0] == '*' || method[0] == 'C' || bytes.HasPrefix(rest, []byte("http"))) {
		return KindHTTP1
	}
	return KindTCP
}

func isMethod(c byte) bool { return c >= 'A' && c <= 'Z' || c == '-' || c == '_' }

func knownMethod(m string) bool {
	switch m {
	case "GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "CONNECT", "TRACE":
		return true
	}
	return false
}
