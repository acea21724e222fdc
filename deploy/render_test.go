package deploy

import "testing"

func TestRender(t *testing.T) {
	r, err := Render(Options{})
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Objects) == 0 {
		t.Error("nothing was rendered")
	}
}
