package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"fairlead.io/fairlead/test/system/cmd/load/tally"
)

// run makes calls at the rate until ctx ends. Calls that are under way then are still waited for, within their limit.
func (p *plan) run(ctx context.Context, t *tally.Tally) error {
	once, err := p.caller()
	if err != nil {
		return err
	}
	tick := time.NewTicker(time.Second / time.Duration(p.rate))
	defer tick.Stop()
	var workers sync.WaitGroup
	for range p.workers {
		workers.Go(func() {
			call := once()
			for n := 0; p.calls == 0 || n < p.calls; n++ {
				select {
				case <-ctx.Done():
					return
				case <-tick.C:
				}
				if ctx.Err() != nil {
					return
				}
				began := time.Now()
				server, err := call()
				t.Add(began, server, err)
				if errors.Is(err, errOver) {
					return
				}
			}
		})
	}
	workers.Wait()
	return nil
}

// errOver ends a worker whose one connection has broken.
var errOver = errors.New("the connection is over")

// caller returns what makes a worker's call.
func (p *plan) caller() (func() func() (string, error), error) {
	same := func(call func() (string, error)) func() func() (string, error) {
		return func() func() (string, error) { return call }
	}
	switch p.mode {
	case "h1", "h1new", "h2":
		return same(p.web()), nil
	case "tcp":
		return same(p.echoOnce), nil
	case "stream":
		return func() func() (string, error) { return p.stream(p.dial) }, nil
	case "upgrade":
		return func() func() (string, error) { return p.stream(p.upgraded) }, nil
	}
	return nil, fmt.Errorf("no mode %q", p.mode)
}

func (p *plan) web() func() (string, error) {
	tr := &http.Transport{DisableKeepAlives: p.mode == "h1new", MaxIdleConnsPerHost: p.workers, Protocols: new(http.Protocols)}
	tr.Protocols.SetHTTP1(p.mode != "h2")
	tr.Protocols.SetUnencryptedHTTP2(p.mode == "h2")
	client := &http.Client{Transport: tr, Timeout: p.limit}
	return func() (string, error) {
		var body io.Reader
		if p.body > 0 {
			body = bytes.NewReader(make([]byte, p.body))
		}
		req, err := http.NewRequest(p.method, "http://"+p.to+p.path, body)
		if err != nil {
			return "", err
		}
		resp, err := client.Do(req)
		if err != nil {
			return "", err
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
		if err != nil {
			return "", err
		}
		if resp.StatusCode != http.StatusOK {
			return "", &tally.StatusError{Code: resp.StatusCode, Text: strings.TrimSpace(string(text))}
		}
		return resp.Header.Get("Server-Name"), nil
	}
}

func (p *plan) dial() (net.Conn, *bufio.Reader, error) {
	c, err := net.DialTimeout("tcp", p.to, p.limit)
	if err != nil {
		return nil, nil, err
	}
	return c, bufio.NewReader(c), nil
}

func (p *plan) upgraded() (net.Conn, *bufio.Reader, error) {
	c, r, err := p.dial()
	if err != nil {
		return nil, nil, err
	}
	c.SetDeadline(time.Now().Add(p.limit))
	fmt.Fprintf(c, "GET /upgrade HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n", p.to)
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		return nil, nil, errors.Join(err, c.Close())
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		return nil, nil, errors.Join(&tally.StatusError{Code: resp.StatusCode}, c.Close())
	}
	return c, r, nil
}

// echo sends bytes and expects them back.
func (p *plan) echo(c net.Conn, r *bufio.Reader) error {
	c.SetDeadline(time.Now().Add(p.limit))
	sent := make([]byte, max(p.body, 16))
	rand.Read(sent)
	sent[0] = '>' // no protocol that a proxy could take it for
	if _, err := c.Write(sent); err != nil {
		return err
	}
	got := make([]byte, len(sent))
	if _, err := io.ReadFull(r, got); err != nil {
		return err
	}
	if !bytes.Equal(sent, got) {
		return errors.New("other bytes came back")
	}
	return nil
}

func (p *plan) echoOnce() (string, error) {
	c, r, err := p.dial()
	if err != nil {
		return "", err
	}
	defer c.Close()
	return "", p.echo(c, r)
}

// stream is one connection for the worker's whole life: when it breaks, that is the end.
func (p *plan) stream(connect func() (net.Conn, *bufio.Reader, error)) func() (string, error) {
	var c net.Conn
	var r *bufio.Reader
	return func() (string, error) {
		if c == nil {
			var err error
			if c, r, err = connect(); err != nil {
				return "", fmt.Errorf("%w: %w", errOver, err)
			}
		}
		if err := p.echo(c, r); err != nil {
			return "", fmt.Errorf("%w: %w", errOver, err)
		}
		return "", nil
	}
}
