package routing

import (
	"errors"
	"fmt"

	"fairlead.io/fairlead/internal/l7/exchange"
	"fairlead.io/fairlead/internal/mesh"
)

// Filters are what is done to a request and to its answer. The zero value does nothing.
type Filters struct {
	request, response *edit
	redirect          *mesh.Redirect
	rewrite           *mesh.Rewrite
	cors              *cors
}

func newFilters(f *mesh.Filters) (out Filters, err error) {
	if out.request, err = newEdit(f.Request); err != nil {
		return out, fmt.Errorf("request headers: %w", err)
	}
	if out.response, err = newEdit(f.Response); err != nil {
		return out, fmt.Errorf("response headers: %w", err)
	}
	if f.Redirect != nil && f.Rewrite != nil {
		return out, errors.New("both a redirect and a rewrite")
	}
	out.redirect, out.rewrite = f.Redirect, f.Rewrite
	out.cors = newCORS(f.CORS)
	return out, nil
}

// Request changes a request's head, whose prefix is what the match has matched of its path. The fields' slice is the caller's
// own.
func (f *Filters) Request(h *exchange.Head, prefix string) {
	if r := f.rewrite; r != nil {
		if r.Host != "" {
			h.Authority = r.Host
		}
		if r.Path.Kind != mesh.PathKeep {
			h.Path = editPath(&r.Path, h.Path, prefix)
		}
	}
	f.request.apply(h)
}

// ChangesResponse tells whether Response does anything.
func (f *Filters) ChangesResponse() bool { return f.response != nil }

// Response changes a response's head. The fields' slice is the caller's own.
func (f *Filters) Response(h *exchange.Head) { f.response.apply(h) }

// edit is a mesh.FieldEdit, ready for use.
type edit struct {
	set, add []exchange.Field
	remove   []string
}

// newEdit leaves out what is not a filter's to touch: framing, what concerns a hop, Host, and what proxies tell each other.
func newEdit(e *mesh.FieldEdit) (*edit, error) {
	if e == nil {
		return nil, nil
	}
	out := &edit{}
	take := func(to *[]exchange.Field, from []mesh.FieldValue) error {
		for _, v := range from {
			f := exchange.Field{Name: v.Name, Value: v.Value, Notes: exchange.Note(v.Name, v.Value)}
			if !f.Notes.Valid {
				return fmt.Errorf("%q is no header field", v.Name)
			}
			if !untouchable(v.Name) {
				*to = append(*to, f)
			}
		}
		return nil
	}
	if err := errors.Join(take(&out.set, e.Set), take(&out.add, e.Add)); err != nil {
		return nil, err
	}
	for _, name := range e.Remove {
		if !untouchable(name) {
			out.remove = append(out.remove, name)
		}
	}
	return out, nil
}

func untouchable(name string) bool {
	m := exchange.About(name)
	return m.HopByHop() || m == exchange.AboutHost || m == exchange.AboutLength || m == exchange.AboutTE || m == exchange.AboutUs
}

func (e *edit) apply(h *exchange.Head) {
	if e == nil {
		return
	}
	kept := h.Fields[:0]
	for i := range h.Fields {
		if name := h.Fields[i].Name; !has(e.remove, name) && !sets(e.set, name) {
			kept = append(kept, h.Fields[i])
		}
	}
	kept = append(kept, e.add...) // to what is there, joined with it as one list would be
	h.Fields = append(kept, e.set...)
}

func has(names []string, name string) bool {
	for _, n := range names {
		if exchange.Same(n, name) {
			return true
		}
	}
	return false
}

func sets(fields []exchange.Field, name string) bool {
	for i := range fields {
		if exchange.Same(fields[i].Name, name) {
			return true
		}
	}
	return false
}
