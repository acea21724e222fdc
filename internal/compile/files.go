package compile

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
)

// files is what the files of a directory define. Of two definitions of one object the first seen is in force.
type files struct {
	of   map[string]*file
	defs map[Key][]string // the files that define an object, the one in force first
}

type file struct {
	objects  map[Key]Object
	problems []Problem
	ignored  []Problem
}

func newFiles() *files { return &files{of: map[string]*file{}, defs: map[Key][]string{}} }

// put takes a file's new text, and returns what that changes. A document that cannot be read leaves the object
// as it was; one that does not even say which object it is, all of the file's objects that the rest does not name.
func (f *files) put(name string, text []byte) (set []Object, gone []Key) {
	old := f.of[name]
	if old == nil {
		old = &file{objects: map[Key]Object{}}
	}
	now, nameless := read(name, text, old)
	if nameless {
		for k, o := range old.objects {
			if _, there := now.objects[k]; !there {
				now.objects[k] = o
			}
		}
	}
	return f.replace(name, old, now)
}

// drop takes a file away.
func (f *files) drop(name string) (set []Object, gone []Key) {
	old := f.of[name]
	if old == nil {
		return nil, nil
	}
	set, gone = f.replace(name, old, &file{objects: map[Key]Object{}})
	delete(f.of, name)
	return set, gone
}

func read(name string, text []byte, old *file) (now *file, nameless bool) {
	now = &file{objects: map[Key]Object{}}
	for _, d := range decode(name, text) {
		p := Problem{File: d.File, Line: d.Line, Object: d.ignored, Err: d.err}
		if d.known {
			p.Object = d.String()
		}
		_, twice := now.objects[d.Key]
		switch {
		case d.ignored != "":
			p.Err = errors.New("of no kind that matters here")
			now.ignored = append(now.ignored, p)
		case d.known && twice:
			p.Err = errors.New("defined twice in this file")
			now.problems = append(now.problems, p)
		case d.err == nil:
			now.objects[d.Key] = d.Object
		default:
			now.problems = append(now.problems, p)
			if last, there := old.objects[d.Key]; there && d.known {
				now.objects[d.Key] = last
			}
			nameless = nameless || !d.known
		}
	}
	return now, nameless
}

func (f *files) replace(name string, old, now *file) (set []Object, gone []Key) {
	f.of[name] = now
	for k := range old.objects {
		if _, there := now.objects[k]; there {
			continue
		}
		f.undefine(k, name)
		if others := f.defs[k]; len(others) > 0 {
			set = append(set, f.of[others[0]].objects[k])
			continue
		}
		gone = append(gone, k)
	}
	for k, o := range now.objects {
		if !slices.Contains(f.defs[k], name) {
			f.defs[k] = append(f.defs[k], name)
		}
		if f.defs[k][0] == name {
			set = append(set, o)
		}
	}
	return set, gone
}

func (f *files) undefine(k Key, name string) {
	f.defs[k] = slices.DeleteFunc(f.defs[k], func(s string) bool { return s == name })
	if len(f.defs[k]) == 0 {
		delete(f.defs, k)
	}
}

// problems are those of reading, and definitions that are not in force because another file has the object.
func (f *files) problems() (problems, ignored []Problem) {
	for _, x := range f.of {
		problems = append(problems, x.problems...)
		ignored = append(ignored, x.ignored...)
	}
	for k, names := range f.defs {
		for _, name := range names[1:] {
			o := f.of[name].objects[k]
			problems = append(problems, Problem{File: o.File, Line: o.Line, Object: k.String(), Err: fmt.Errorf("defined in %s already", names[0])})
		}
	}
	order := func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.String(), b.String()))
	}
	slices.SortFunc(problems, order)
	slices.SortFunc(ignored, order)
	return problems, ignored
}
