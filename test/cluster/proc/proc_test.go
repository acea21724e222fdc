package proc

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The test's binary is also the process that Spawn starts: what it does is its first argument.
func TestMain(m *testing.M) {
	switch filepath.Base(os.Args[0]) {
	case "ready":
		child(nil)
	case "failing":
		child(errors.New("no luck"))
	case "dying":
		_ = Child{}.Await()
		os.Exit(1)
	case "early": // does something at once that is to be seen only after it was recorded
		if err := (Child{}).Await(); err != nil {
			os.Exit(1)
		}
		_ = os.WriteFile(os.Args[1], nil, 0o644)
		Child{}.Ready(nil)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func child(failure error) {
	if err := (Child{}).Await(); err != nil {
		os.Exit(1)
	}
	Child{}.Ready(failure)
	_, _ = os.Stdin.Read(make([]byte, 1)) // until the test closes it
	os.Exit(0)
}

func testContext(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func command(t *testing.T, args ...string) *exec.Cmd {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = r.Close(), w.Close() })
	return &exec.Cmd{Path: "/proc/self/exe", Args: args, Stdin: r}
}

func TestParseStat(t *testing.T) {
	const rest = " S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 20 21"
	for _, test := range []struct {
		line  string
		start uint64
		state byte
		ok    bool
	}{
		{"7 (cat)" + rest, 4711, 'S', true},
		{"7 (a) Z 1 2)" + rest, 4711, 'S', true}, // a name may look like anything
		{"7 (cat) S 1 2", 0, 0, false},
		{"", 0, 0, false},
		{"7 (cat)" + strings.Replace(rest, "4711", "-1", 1), 0, 'S', false},
	} {
		start, state, err := parseStat([]byte(test.line))
		if start != test.start || state != test.state || (err == nil) != test.ok {
			t.Errorf("%q: %d %c %v", test.line, start, state, err)
		}
	}
}

func TestReusedNumberIsAnother(t *testing.T) {
	own, err := Of(os.Getpid())
	if err != nil || !own.Alive() {
		t.Fatalf("%v, %v", own, err)
	}
	other := ID{PID: own.PID, Start: own.Start - 1}
	if other.Alive() {
		t.Error("a process that was started at another time is taken for this one")
	}
	if err := other.Kill(testContext(t)); err != nil { // had it killed, this would not go on
		t.Error(err)
	}
	if (ID{}).Alive() || (ID{}).Kill(testContext(t)) != nil {
		t.Error("no process at all is taken for one")
	}
}

func TestSpawnAndKill(t *testing.T) {
	records := Records(t.TempDir())
	id, err := Spawn(testContext(t), command(t, "ready"), func(id ID) error { return records.Put("r", id) })
	if err != nil {
		t.Fatal(err)
	}
	if got, ok := records.Get("r"); !ok || got != id {
		t.Errorf("recorded %v %t, want %v", got, ok, id)
	}
	if err := id.Kill(testContext(t)); err != nil {
		t.Fatal(err)
	}
	if _, ok := records.Get("r"); ok {
		t.Error("a killed process is alive")
	}
	if all, err := records.All(); err != nil || all["r"] != id {
		t.Errorf("its record is gone: %v, %v", all, err)
	}
	if err := errors.Join(records.Delete("r"), records.Delete("r")); err != nil {
		t.Error(err)
	}
}

func TestSpawnSaysWhatFailed(t *testing.T) {
	for name, want := range map[string]string{"failing": "no luck", "dying": "it ended before it was ready"} {
		_, err := Spawn(testContext(t), command(t, name), func(ID) error { return nil })
		if err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %s", name, err, want)
		}
	}
}

func TestNotRecordedDoesNothing(t *testing.T) {
	did := filepath.Join(t.TempDir(), "did")
	var started ID
	broken := errors.New("disk full")
	_, err := Spawn(testContext(t), command(t, "early", did), func(id ID) error {
		started = id
		return broken
	})
	if !errors.Is(err, broken) {
		t.Errorf("error %v", err)
	}
	if _, err := os.Stat(did); err == nil {
		t.Error("a process that was not recorded went on")
	}
	if started.Alive() {
		t.Error("a process that was not recorded lives")
	}
}

func TestSpawnEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	id, err := Spawn(ctx, exec.Command("tail", "-f", "/dev/null"), // says nothing ever
		func(ID) error { cancel(); return nil })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	if err := id.Kill(testContext(t)); err != nil {
		t.Error(err)
	}
}

func TestRecordsSkipUnfinished(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, ".half"), []byte("{"), 0o644); err != nil {
		t.Fatal(err)
	}
	if all, err := Records(dir).All(); err != nil || len(all) != 0 {
		t.Errorf("%v, %v", all, err)
	}
	if all, err := Records(dir + "/none").All(); err != nil || len(all) != 0 {
		t.Errorf("no directory: %v, %v", all, err)
	}
}
