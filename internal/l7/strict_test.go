package l7

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// strict is an app that trusts nobody: it parses what arrives by the letter of RFC 9112 or RFC 9113, forgives nothing, and remembers it.
// It answers with the target that it saw.
type strict struct {
	mu    sync.Mutex
	heads []string // each request line, however its request ended
	whole []string // each request that came to its end: method, target, host, body, trailers
	wrong []string // what no proxy may send
	raw   []string // what came through tunnels
}

func (s *strict) note(list *[]string, format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	*list = append(*list, fmt.Sprintf(format, args...))
}

// since is what has come after the first so many heads and whole requests.
func (s *strict) since(heads, whole int) (h, w, wrong []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.heads[heads:]), slices.Clone(s.whole[whole:]), slices.Clone(s.wrong)
}

func (s *strict) counts() (heads, whole int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.heads), len(s.whole)
}

// errWrong is something that RFC 9112 does not allow.
type errWrong string

func (e errWrong) Error() string { return string(e) }

// serve1 is the app as HTTP/1.
func (s *strict) serve1(c *net.TCPConn) {
	r := bufio.NewReader(c)
	for {
		more, err := s.request1(c, r)
		var wrong errWrong
		if errors.As(err, &wrong) {
			s.note(&s.wrong, "%s", wrong)
		}
		if err != nil || !more {
			return
		}
	}
}

// message is one as it is read.
type message struct {
	method, target, version string
	fields                  [][2]string
	body                    string
	trailers                [][2]string
}

func (m *message) all(name string) (values []string) {
	for _, f := range m.fields {
		if strings.EqualFold(f[0], name) {
			values = append(values, f[1])
		}
	}
	return values
}

func (s *strict) request1(c io.Writer, r *bufio.Reader) (more bool, err error) {
	line, err := strictLine(r)
	if err != nil {
		return false, err
	}
	var m message
	if m.method, m.target, m.version, err = strictRequestLine(line); err != nil {
		return false, err
	}
	s.note(&s.heads, "%s %s", m.method, m.target)
	if m.fields, err = strictFields(r); err != nil {
		return false, err
	}
	if err := m.readBody(r); err != nil {
		return false, err
	}
	hosts := m.all("host")
	if len(hosts) > 1 || len(hosts) == 0 && m.version == "HTTP/1.1" {
		return false, errWrong(fmt.Sprintf("%d hosts", len(hosts)))
	}
	for _, f := range m.fields {
		if strings.HasPrefix(strings.ToLower(f[0]), "fairlead-") {
			return false, errWrong("ours: " + f[0])
		}
	}
	s.note(&s.whole, "%s", m.String())
	switch {
	case m.target == "/switch" && len(m.all("upgrade")) > 0:
		io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n")
		b, _ := io.ReadAll(r)
		s.note(&s.raw, "%s", b)
		return false, nil
	case m.method == "CONNECT":
		_, err = io.WriteString(c, "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
		return true, err
	case m.method == "HEAD":
		_, err = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")
	default:
		_, err = fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(m.target), m.target)
	}
	return m.version == "HTTP/1.1", err
}

func (m *message) String() string {
	s := m.method + " " + m.target + " " + strings.Join(m.all("host"), ",")
	if m.body != "" {
		s += " [" + m.body + "]"
	}
	for _, t := range m.trailers {
		s += " {" + t[0] + ": " + t[1] + "}"
	}
	return s
}

// strictLine reads up to CRLF, and takes no other control character than a tab.
func strictLine(r *bufio.Reader) (string, error) {
	line, err := r.ReadString('\n')
	if err != nil {
		return "", err
	}
	line, ok := strings.CutSuffix(line, "\r\n")
	if !ok {
		return "", errWrong(fmt.Sprintf("bare LF: %q", line))
	}
	for i := range len(line) {
		if line[i] < ' ' && line[i] != '\t' || line[i] == 0x7f {
			return "", errWrong(fmt.Sprintf("control character: %q", line))
		}
	}
	return line, nil
}

func strictRequestLine(line string) (method, target, version string, err error) {
	parts := strings.Split(line, " ")
	if len(parts) != 3 || !strictToken(parts[0]) || parts[1] == "" || strings.Contains(line, "\t") {
		return "", "", "", errWrong(fmt.Sprintf("request line: %q", line))
	}
	if parts[2] != "HTTP/1.1" && parts[2] != "HTTP/1.0" {
		return "", "", "", errWrong(fmt.Sprintf("version: %q", line))
	}
	return parts[0], parts[1], parts[2], nil
}

func strictToken(s string) bool {
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c >= 0x7f || strings.IndexByte(`"(),/:;<=>?@[\]{}`, c) >= 0 {
			return false
		}
	}
	return s != ""
}

func strictFields(r *bufio.Reader) (fields [][2]string, err error) {
	for {
		line, err := strictLine(r)
		if err != nil || line == "" {
			return fields, err
		}
		name, value, ok := strings.Cut(line, ":")
		if !ok || !strictToken(name) {
			return nil, errWrong(fmt.Sprintf("field: %q", line))
		}
		fields = append(fields, [2]string{name, strings.Trim(value, " \t")})
	}
}

// readBody finds the one framing that the head announces.
func (m *message) readBody(r *bufio.Reader) error {
	lengths, codings := m.all("content-length"), m.all("transfer-encoding")
	switch {
	case len(lengths) > 1, len(codings) > 1, len(lengths)+len(codings) > 1:
		return errWrong(fmt.Sprintf("lengths %q beside codings %q", lengths, codings))
	case len(codings) == 1 && (codings[0] != "chunked" || m.version != "HTTP/1.1"):
		return errWrong(fmt.Sprintf("coding %q in %s", codings[0], m.version))
	case len(codings) == 1:
		return m.readChunks(r)
	case len(lengths) == 0:
		return nil
	}
	n, err := strconv.ParseUint(lengths[0], 10, 31)
	if err != nil || lengths[0][0] == '+' {
		return errWrong(fmt.Sprintf("length %q", lengths[0]))
	}
	b := make([]byte, n)
	_, err = io.ReadFull(r, b)
	m.body = string(b)
	return err
}

func (m *message) readChunks(r *bufio.Reader) error {
	for {
		line, err := strictLine(r)
		if err != nil {
			return err
		}
		n, err := strconv.ParseUint(line, 16, 31)
		if err != nil || line[0] == '+' {
			return errWrong(fmt.Sprintf("chunk size %q", line))
		}
		if n == 0 {
			m.trailers, err = strictFields(r)
			return err
		}
		b := make([]byte, n+2)
		if _, err := io.ReadFull(r, b); err != nil {
			return err
		}
		if string(b[n:]) != "\r\n" {
			return errWrong(fmt.Sprintf("chunk ends with %q", b[n:]))
		}
		m.body += string(b[:n])
	}
}

// serve2 is the app as HTTP/2; x/net's framer checks heads by RFC 9113.
func (s *strict) serve2(c *net.TCPConn) {
	if _, err := io.ReadFull(c, make([]byte, len(h2Preface))); err != nil {
		return
	}
	f := http2.NewFramer(c, c)
	f.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	f.WriteSettings()
	open := map[uint32]*message{}
	for {
		fr, err := f.ReadFrame()
		var stream http2.StreamError
		if errors.As(err, &stream) {
			s.note(&s.wrong, "%v", err)
			continue
		}
		if err != nil {
			return
		}
		id := fr.Header().StreamID
		switch fr := fr.(type) {
		case *http2.SettingsFrame:
			if !fr.IsAck() {
				f.WriteSettingsAck()
			}
		case *http2.MetaHeadersFrame:
			if m := open[id]; m != nil {
				for _, field := range fr.Fields {
					m.trailers = append(m.trailers, [2]string{field.Name, field.Value})
				}
			} else {
				open[id] = s.head2(fr)
			}
			if fr.StreamEnded() {
				s.answer2(f, id, open)
			}
		case *http2.DataFrame:
			if m := open[id]; m != nil {
				m.body += string(fr.Data())
				if fr.StreamEnded() {
					s.answer2(f, id, open)
				}
			}
		case *http2.RSTStreamFrame:
			delete(open, id)
		}
	}
}

func (s *strict) head2(fr *http2.MetaHeadersFrame) *message {
	m := &message{method: fr.PseudoValue("method"), target: fr.PseudoValue("path")}
	m.fields = append(m.fields, [2]string{"host", fr.PseudoValue("authority")})
	for _, f := range fr.RegularFields() {
		m.fields = append(m.fields, [2]string{f.Name, f.Value})
		switch f.Name {
		case "connection", "transfer-encoding", "upgrade", "keep-alive", "proxy-connection", "host":
			s.note(&s.wrong, "field %s", f.Name)
		}
		if strings.HasPrefix(f.Name, "fairlead-") {
			s.note(&s.wrong, "ours: %s", f.Name)
		}
	}
	if strings.ContainsAny(m.target, " \t") || m.target != "" && m.target[0] != '/' && m.target != "*" || !strictToken(m.method) {
		s.note(&s.wrong, "head %q %q", m.method, m.target)
	}
	s.note(&s.heads, "%s %s", m.method, m.target)
	return m
}

func (s *strict) answer2(f *http2.Framer, id uint32, open map[uint32]*message) {
	m := open[id]
	delete(open, id)
	if l := m.all("content-length"); len(l) > 1 || len(l) == 1 && l[0] != strconv.Itoa(len(m.body)) {
		s.note(&s.wrong, "content-length %q of %d bytes", l, len(m.body))
	}
	s.note(&s.whole, "%s", m.String())
	f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: []byte{0x88}, EndHeaders: true})
	f.WriteData(id, true, []byte(m.target))
}
