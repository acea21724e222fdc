package l7

import (
	"fairlead.io/fairlead/internal/l7/exchange"
	"fairlead.io/fairlead/internal/mesh"
)

// answered answers in our own name, if the rule says so: to a browser that asks whether it may, or with a redirect.
func (r *request) answered() bool {
	f := &r.way.rule.Filters
	if fields, ok := f.Preflight(&r.head); ok {
		r.answer(&exchange.Head{Status: 204, Fields: fields}, "")
		return true
	}
	status, location, ok := f.Redirect(&r.head, r.s.route.dst.Port.Number, r.way.prefix)
	if !ok {
		return false
	}
	fields := append(f.CORS(&r.head), exchange.Field{Name: "location", Value: location})
	r.answer(&exchange.Head{Status: status, Fields: fields}, "")
	return true
}

// answer answers the request with what is no failure.
func (r *request) answer(h *exchange.Head, text string) {
	r.rec.Status = h.Status
	r.x.Answer(h, text)
}

// edit makes the head that the backend gets of the one that has come, as rule and backend say.
func (r *request) edit() {
	rule, to := r.way.rule, r.way.to
	r.edited = editsRequest(&rule.Rule.Filters) || editsRequest(&to.Backend.Filters)
	if !r.edited {
		return
	}
	fields := append(r.out.Fields[:0], r.head.Fields...)
	r.out = r.head
	r.out.Fields = fields
	rule.Filters.Request(&r.out, r.way.prefix)
	to.Filters.Request(&r.out, r.way.prefix)
}

func editsRequest(f *mesh.Filters) bool { return f.Request != nil || f.Rewrite != nil }

// outgoing is the head that upstreams get.
func (r *request) outgoing() *exchange.Head {
	if r.edited {
		return &r.out
	}
	return &r.head
}

// editsResponse tells whether rule or backend have the response changed.
func (w *way) editsResponse() bool {
	return w.to != nil && (w.rule.Filters.ChangesResponse() || w.to.Filters.ChangesResponse() || w.rule.Rule.Filters.CORS != nil)
}

// editResponse is a final response's head as backend and rule have it. What it is made of is the codec's, so it is made aside.
func (r *request) editResponse(h *exchange.Head) *exchange.Head {
	if !r.way.editsResponse() || h.Status < 200 && h.Status != 101 {
		return h
	}
	edited := &r.down.head
	fields := edited.Fields[:0]
	marks := r.way.rule.Filters.CORS(&r.head)
	for i := range h.Fields {
		if !among(marks, h.Fields[i].Name) {
			fields = append(fields, h.Fields[i])
		}
	}
	*edited = *h
	edited.Fields = append(fields, marks...)
	r.way.to.Filters.Response(edited)
	r.way.rule.Filters.Response(edited)
	return edited
}

// among tells whether there is a field of that name; what caches vary by is a list, to which more may come.
func among(fields []exchange.Field, name string) bool {
	if exchange.Same(name, "vary") {
		return false
	}
	_, ok := exchange.Get(fields, name)
	return ok
}
