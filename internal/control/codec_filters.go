package control

import (
	"fmt"

	"fairlead.io/fairlead/internal/control/controlpb"
	"fairlead.io/fairlead/internal/mesh"
)

func encodeFilters(f mesh.Filters) *controlpb.Filters {
	out := &controlpb.Filters{Request: encodeEdit(f.Request), Response: encodeEdit(f.Response)}
	if r := f.Redirect; r != nil {
		out.Redirect = &controlpb.Redirect{Scheme: r.Scheme, Host: r.Host, Port: uint32(r.Port), Path: encodePathEdit(r.Path), Status: uint32(r.Status)}
	}
	if r := f.Rewrite; r != nil {
		out.Rewrite = &controlpb.Rewrite{Host: r.Host, Path: encodePathEdit(r.Path)}
	}
	for _, m := range f.Mirrors {
		out.Mirrors = append(out.Mirrors, &controlpb.Mirror{Backend: encodeBackend(m.Backend), Part: m.Part, Of: m.Of})
	}
	if c := f.CORS; c != nil {
		out.Cors = &controlpb.Cors{Origins: c.Origins, Credentials: c.Credentials, Methods: c.Methods, Headers: c.Headers, Expose: c.Expose, MaxAgeNs: int64(c.MaxAge)}
	}
	return out
}

func decodeFilters(f *controlpb.Filters) (out mesh.Filters, err error) {
	out = mesh.Filters{Request: decodeEdit(f.GetRequest()), Response: decodeEdit(f.GetResponse())}
	if r := f.GetRedirect(); r != nil {
		out.Redirect = &mesh.Redirect{Scheme: r.GetScheme(), Host: r.GetHost(), Path: decodePathEdit(r.GetPath()), Status: int(r.GetStatus())}
		if out.Redirect.Port, err = decodePort(r.GetPort()); err != nil {
			return out, fmt.Errorf("redirect: %w", err)
		}
	}
	if r := f.GetRewrite(); r != nil {
		out.Rewrite = &mesh.Rewrite{Host: r.GetHost(), Path: decodePathEdit(r.GetPath())}
	}
	for _, m := range f.GetMirrors() {
		b, err := decodeBackend(m.GetBackend())
		if err != nil {
			return out, fmt.Errorf("mirror: %w", err)
		}
		out.Mirrors = append(out.Mirrors, mesh.Mirror{Backend: b, Part: m.GetPart(), Of: m.GetOf()})
	}
	if c := f.GetCors(); c != nil {
		out.CORS = &mesh.CORS{Origins: c.GetOrigins(), Credentials: c.GetCredentials(), Methods: c.GetMethods(), Headers: c.GetHeaders(),
			Expose: c.GetExpose(), MaxAge: decodeTime(c.GetMaxAgeNs())}
	}
	return out, nil
}

func encodeEdit(e *mesh.FieldEdit) *controlpb.FieldEdit {
	if e == nil {
		return nil
	}
	return &controlpb.FieldEdit{Set: each(e.Set, encodeValue), Add: each(e.Add, encodeValue), Remove: e.Remove}
}

func decodeEdit(e *controlpb.FieldEdit) *mesh.FieldEdit {
	if e == nil {
		return nil
	}
	return &mesh.FieldEdit{Set: each(e.GetSet(), decodeValue), Add: each(e.GetAdd(), decodeValue), Remove: e.GetRemove()}
}

func encodeValue(v mesh.FieldValue) *controlpb.FieldValue {
	return &controlpb.FieldValue{Name: v.Name, Value: v.Value}
}

func decodeValue(v *controlpb.FieldValue) mesh.FieldValue {
	return mesh.FieldValue{Name: v.GetName(), Value: v.GetValue()}
}

func encodePathEdit(e mesh.PathEdit) *controlpb.PathEdit {
	return &controlpb.PathEdit{Kind: controlpb.PathEditKind(e.Kind), Value: e.Value}
}

// decodePathEdit: an edit of a later version leaves the path as it is.
func decodePathEdit(e *controlpb.PathEdit) mesh.PathEdit {
	if k := e.GetKind(); k < 0 || k > controlpb.PathEditKind(mesh.PathMatched) {
		return mesh.PathEdit{}
	}
	return mesh.PathEdit{Kind: mesh.PathEditKind(e.GetKind()), Value: e.GetValue()}
}
