package install

import (
	"encoding/json"
	"errors"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/containernetworking/cni/libcni"
	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const bridge = `{
  "cniVersion": "1.0.0",
  "name": "lab",
  "x-agent": {"serial": 12345678901234567890},
  "plugins": [
    {"type": "bridge",   "bridge": "cni0", "unknown": [1.50, {"a": null}]},
    {
        "type": "portmap",
        "capabilities": {"portMappings": true}
    }
  ]
}
`

const single = `{"cniVersion":"0.4.0","name":"old","type":"bridge","ipam":{"type":"host-local","subnet":"10.1.0.0/24"},"n":12345678901234567890}`

// mustConfig makes the directories of a node with these configurations.
func mustConfig(t testing.TB, confs map[string]string) Config {
	t.Helper()
	dir := t.TempDir()
	c := Config{BinDir: filepath.Join(dir, "bin"), ConfDir: filepath.Join(dir, "net.d"), Plugin: filepath.Join(dir, "plugin"),
		Entry: map[string]any{"socket": "/run/fairlead/cni.sock", "timeout": "5s"}}
	mustMkdir(t, c.ConfDir)
	mustWrite(t, c.Plugin, "binary 1")
	for name, content := range confs {
		mustWrite(t, filepath.Join(c.ConfDir, name), content)
	}
	return c
}

func mustMkdir(t testing.TB, dir string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
}

func mustWrite(t testing.TB, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o640); err != nil {
		t.Fatal(err)
	}
}

func mustInstall(t testing.TB, c Config) State {
	t.Helper()
	s, err := Install(c)
	if err != nil {
		t.Fatal(err)
	}
	if s.Conf != "" {
		mustBeUsed(t, c, filepath.Base(s.Conf))
	}
	return s
}

// confsOf are the files of the configuration directory.
func confsOf(t testing.TB, c Config) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(c.ConfDir)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(c.ConfDir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		found[e.Name()] = string(b)
	}
	return found
}

// mustBeUsed makes sure that a runtime takes the file name, and calls us last and once.
func mustBeUsed(t testing.TB, c Config, name string) {
	t.Helper()
	files, err := libcni.ConfFiles(c.ConfDir, []string{".conf", ".conflist", ".json"})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(files)
	for _, file := range files {
		list, err := libcni.NetworkConfFromFile(file)
		if err != nil {
			continue
		}
		if filepath.Base(file) != name {
			t.Errorf("the runtime takes %s, not %s", filepath.Base(file), name)
		}
		for i, p := range list.Plugins {
			if last := i == len(list.Plugins)-1; (p.Network.Type == DefaultType) != last {
				t.Errorf("plugin %d of %d is %s", i+1, len(list.Plugins), p.Network.Type)
			}
		}
		return
	}
	t.Error("the runtime takes none")
}

func decode(t testing.TB, text string) map[string]any {
	t.Helper()
	dec := json.NewDecoder(strings.NewReader(text))
	dec.UseNumber()
	var fields map[string]any
	if err := dec.Decode(&fields); err != nil {
		t.Fatal(err)
	}
	return fields
}

func TestAListIsJoinedAndLeft(t *testing.T) {
	confs := map[string]string{"20-other.conflist": bridge, "10-lab.conflist": bridge, "README": "no conf"}
	c := mustConfig(t, confs)
	s := mustInstall(t, c)
	if s.Conf != filepath.Join(c.ConfDir, "10-lab.conflist") || !s.Changed || len(s.Problems) > 0 {
		t.Errorf("%+v", s)
	}
	got := confsOf(t, c)
	if got["20-other.conflist"] != bridge || len(got) != 3 {
		t.Errorf("other files were touched: %v", slices.Collect(maps.Keys(got)))
	}
	want := decode(t, bridge)
	want["plugins"] = append(want["plugins"].([]any), map[string]any{"type": DefaultType, "socket": "/run/fairlead/cni.sock", "timeout": "5s"})
	if d := cmp.Diff(want, decode(t, got["10-lab.conflist"])); d != "" {
		t.Error(d)
	}
	if !strings.Contains(got["10-lab.conflist"], `{"type": "bridge",   "bridge": "cni0", "unknown": [1.50, {"a": null}]}`) {
		t.Error("another plugin's entry was written anew")
	}
	if info, err := os.Stat(s.Conf); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if s := mustInstall(t, c); s.Changed {
		t.Error("a second time changed something")
	}
	if left, err := Remains(c); err != nil || !slices.Equal(left, []string{filepath.Join(c.BinDir, DefaultType), s.Conf}) {
		t.Errorf("remains %v, %v", left, err)
	}
	if err := Uninstall(c); err != nil {
		t.Fatal(err)
	}
	if left, err := Remains(c); err != nil || len(left) > 0 {
		t.Errorf("remains %v, %v", left, err)
	}
	for name, content := range confsOf(t, c) {
		if name != "README" && cmp.Diff(decode(t, confs[name]), decode(t, content)) != "" {
			t.Errorf("%s is now %s", name, content)
		}
	}
	if err := Uninstall(c); err != nil {
		t.Error("a second time:", err)
	}
}

func TestASingleBecomesAListAndComesBack(t *testing.T) {
	for name, confs := range map[string]map[string]string{
		"10-old.conf": {"10-old.conf": single, "10-old.conflist": bridge},
		"10-old.json": {"10-old.json": single, "20-new.conflist": bridge},
	} {
		t.Run(name, func(t *testing.T) {
			c := mustConfig(t, confs)
			if s := mustInstall(t, c); s.Conf != filepath.Join(c.ConfDir, name+madeSuffix) {
				t.Errorf("%+v", s)
			}
			got := confsOf(t, c)
			if got[name+savedSuffix] != single || len(got) != 3 {
				t.Errorf("files %v", got)
			}
			made := decode(t, got[name+madeSuffix])
			if d := cmp.Diff(decode(t, single), made["plugins"].([]any)[0]); d != "" || made["name"] != "old" || made["cniVersion"] != "0.4.0" {
				t.Errorf("%v %s", made, d)
			}
			if s := mustInstall(t, c); s.Changed {
				t.Error("a second time changed something")
			}
			if err := Uninstall(c); err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(confs, confsOf(t, c)); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestARewrittenConfigurationIsRepaired(t *testing.T) {
	c := mustConfig(t, map[string]string{"10-a.conflist": bridge, "20-b.conf": single})
	mustInstall(t, c)
	// The agent writes its own again, with another plugin after ours in between.
	mustWrite(t, filepath.Join(c.ConfDir, "10-a.conflist"), strings.Replace(bridge, `{"type": "bridge"`, `{"type":"fairlead-cni"}, {"type":"fairlead-cni","x":1}, {"type": "bridge"`, 1))
	if s := mustInstall(t, c); !s.Changed {
		t.Error("not repaired")
	}
	// A single one is written again, in place of the one that was saved.
	if err := os.Remove(filepath.Join(c.ConfDir, "10-a.conflist")); err != nil {
		t.Fatal(err)
	}
	mustInstall(t, c)
	newer := strings.Replace(single, "10.1.0.0", "10.2.0.0", 1)
	mustWrite(t, filepath.Join(c.ConfDir, "20-b.conf"), newer)
	mustInstall(t, c)
	if got := confsOf(t, c); !strings.Contains(got["20-b.conf"+madeSuffix], "10.2.0.0") || got["20-b.conf"+savedSuffix] != newer {
		t.Errorf("files %v", got)
	}
	// Another configuration comes before.
	mustWrite(t, filepath.Join(c.ConfDir, "05-new.conflist"), bridge)
	if s := mustInstall(t, c); !strings.HasSuffix(s.Conf, "05-new.conflist") {
		t.Errorf("%+v", s)
	}
	// Our settings change.
	c.Entry = map[string]any{"timeout": "9s"}
	if s := mustInstall(t, c); !s.Changed || !strings.Contains(confsOf(t, c)["05-new.conflist"], "9s") {
		t.Errorf("%+v", s)
	}
	if err := Uninstall(c); err != nil {
		t.Fatal(err)
	}
	for name, content := range confsOf(t, c) {
		if strings.Contains(content, DefaultType) || strings.Contains(name, "fairlead") {
			t.Errorf("left in %s: %s", name, content)
		}
	}
}

func TestUninstallAfterACrash(t *testing.T) {
	made, err := addEntry([]byte(`{"cniVersion":"0.4.0","name":"old","plugins":[`+single+`]}`), DefaultType, nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, confs := range map[string]map[string]string{
		"list made, original not yet saved": {"x.conf": single, "x.conf" + madeSuffix: string(made)},
		"saved":                             {"x.conf" + savedSuffix: single, "x.conf" + madeSuffix: string(made)},
		"restored, list still there":        {"x.conf": single, "x.conf" + madeSuffix: string(made)},
		"list removed by somebody":          {"x.conf" + savedSuffix: single},
		"the agent wrote its own again":     {"x.conf": single, "x.conf" + savedSuffix: "{}", "x.conf" + madeSuffix: string(made)},
	} {
		c := mustConfig(t, confs)
		if err := Uninstall(c); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if d := cmp.Diff(map[string]string{"x.conf": single}, confsOf(t, c)); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
	c := mustConfig(t, map[string]string{"x.conf" + madeSuffix: string(made)})
	if err := Uninstall(c); err != nil {
		t.Fatal(err)
	}
	if got := confsOf(t, c)["x.conf"+madeSuffix]; got == "" || strings.Contains(got, DefaultType) {
		t.Errorf("the node's only network is now %q", got)
	}
}

func TestWhatIsNotUnderstoodIsLeftAlone(t *testing.T) {
	confs := map[string]string{
		"00-broken.conflist":    `{"cniVersion": "1.0.0", "plugins": [`,
		"01-empty.conf":         "",
		"02-noplugins.conflist": `{"cniVersion":"1.0.0","name":"x","plugins":[]}`,
		"03-huge.conflist":      strings.Repeat(" ", maxConf+1),
		"10-lab.conflist":       bridge,
	}
	c := mustConfig(t, confs)
	s := mustInstall(t, c)
	if !strings.HasSuffix(s.Conf, "10-lab.conflist") || len(s.Problems) != 4 {
		t.Errorf("%+v", s)
	}
	for _, p := range s.Problems {
		if !errors.Is(p, errLeftAlone) {
			t.Error(p)
		}
	}
	if err := Uninstall(c); err != nil {
		t.Error(err)
	}
	got := confsOf(t, c)
	delete(got, "10-lab.conflist")
	delete(confs, "10-lab.conflist")
	if d := cmp.Diff(confs, got); d != "" {
		t.Error(d)
	}
}

func TestAVersionThatWeDoNotSpeakIsLeftAlone(t *testing.T) {
	for _, version := range []string{`"0.2.0"`, `"0.3.0"`, `""`} {
		old := strings.Replace(bridge, `"1.0.0"`, version, 1)
		c := mustConfig(t, map[string]string{"10-lab.conflist": old})
		s, err := Install(c)
		if err != nil || s.Conf != "" || len(s.Problems) != 1 {
			t.Errorf("%s: %+v, %v", version, s, err)
		}
		if got := confsOf(t, c)["10-lab.conflist"]; got != old {
			t.Errorf("%s: now %s", version, got)
		}
	}
}

func TestTheBinaryIsReplacedWhileItRuns(t *testing.T) {
	c := mustConfig(t, map[string]string{"10-lab.conflist": bridge})
	sleep, err := exec.LookPath("sleep")
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.ReadFile(sleep)
	if err != nil {
		t.Fatal(err)
	}
	mustWrite(t, c.Plugin, string(self))
	mustInstall(t, c)
	target := filepath.Join(c.BinDir, DefaultType)
	cmd := exec.CommandContext(t.Context(), target, "30")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	mustWrite(t, c.Plugin, "binary 2")
	if s := mustInstall(t, c); !s.Changed {
		t.Error("not replaced")
	}
	if b, err := os.ReadFile(target); err != nil || string(b) != "binary 2" {
		t.Errorf("%d bytes, %v", len(b), err)
	}
	if err := cmd.Process.Signal(syscall.Signal(0)); err != nil {
		t.Error("the running one ended:", err)
	}
	if s := mustInstall(t, c); s.Changed {
		t.Error("a second time changed something")
	}
	if entries, _ := os.ReadDir(c.BinDir); len(entries) != 1 {
		t.Errorf("left in the directory: %v", entries)
	}
	if err := Uninstall(c); err != nil {
		t.Fatal(err)
	}
	if entries, _ := os.ReadDir(c.BinDir); len(entries) != 0 {
		t.Errorf("left in the directory: %v", entries)
	}
}

func TestTheBinaryStaysWhileItMayBeCalled(t *testing.T) {
	c := mustConfig(t, map[string]string{"10-lab.conflist": bridge})
	mustInstall(t, c)
	// It cannot be read, so nobody knows whether it names us.
	list := filepath.Join(c.ConfDir, "20-loop.conflist")
	if err := os.Symlink(list, list); err != nil {
		t.Fatal(err)
	}
	if err := Uninstall(c); err == nil {
		t.Error("no error")
	}
	if _, err := os.Stat(filepath.Join(c.BinDir, DefaultType)); err != nil {
		t.Error("the binary is gone:", err)
	}
}

func TestNoConfigurationYet(t *testing.T) {
	c := mustConfig(t, nil)
	if err := os.Remove(c.ConfDir); err != nil {
		t.Fatal(err)
	}
	if s := mustInstall(t, c); s.Conf != "" || !s.Changed {
		t.Errorf("%+v", s)
	}
}
