package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"sigs.k8s.io/yaml"
)

// What Helm looks for in a registry.
const (
	chartConfig  types.MediaType = "application/vnd.cncf.helm.config.v1+json"
	chartContent types.MediaType = "application/vnd.cncf.helm.chart.content.v1.tar+gzip"
)

const chartMax = 16 << 20

// chart is a chart's archive as an OCI artifact: its metadata is the config, the archive is the one layer.
type chart struct {
	name, version    string
	config, manifest []byte
	layer            v1.Layer
}

func newChart(archive []byte) (*chart, error) {
	text, err := chartYAML(archive)
	if err != nil {
		return nil, err
	}
	c := &chart{layer: static.NewLayer(archive, chartContent)}
	if c.config, err = yaml.YAMLToJSON(text); err != nil {
		return nil, fmt.Errorf("read Chart.yaml: %w", err)
	}
	var metadata struct{ Name, Version, AppVersion, Description string }
	if err := json.Unmarshal(c.config, &metadata); err != nil {
		return nil, fmt.Errorf("read Chart.yaml: %w", err)
	}
	if c.name, c.version = metadata.Name, metadata.Version; c.name == "" || c.version == "" {
		return nil, errors.New("read Chart.yaml: no name or no version")
	}
	layer, err := partial.Descriptor(c.layer)
	if err != nil {
		return nil, err
	}
	hash, size, err := v1.SHA256(bytes.NewReader(c.config))
	if err != nil {
		return nil, err
	}
	c.manifest, err = json.Marshal(v1.Manifest{
		SchemaVersion: 2, MediaType: types.OCIManifestSchema1,
		Config: v1.Descriptor{MediaType: chartConfig, Size: size, Digest: hash},
		Layers: []v1.Descriptor{*layer},
		Annotations: map[string]string{
			"org.opencontainers.image.title":       metadata.Name,
			"org.opencontainers.image.version":     metadata.Version,
			"org.opencontainers.image.description": metadata.Description,
		},
	})
	return c, err
}

// tag is the version as a registry can have it; Helm knows of the one difference.
func (c *chart) tag() string { return strings.ReplaceAll(c.version, "+", "_") }

// image makes the artifact what remote.Write takes.
func (c *chart) image() (v1.Image, error) { return partial.CompressedToImage(c) }

func (c *chart) RawConfigFile() ([]byte, error)                         { return c.config, nil }
func (c *chart) RawManifest() ([]byte, error)                           { return c.manifest, nil }
func (c *chart) MediaType() (types.MediaType, error)                    { return types.OCIManifestSchema1, nil }
func (c *chart) LayerByDigest(v1.Hash) (partial.CompressedLayer, error) { return c.layer, nil }

// chartYAML finds the metadata in an archive: Chart.yaml in the one directory at its top.
func chartYAML(archive []byte) ([]byte, error) {
	zipped, err := gzip.NewReader(bytes.NewReader(archive))
	if err != nil {
		return nil, fmt.Errorf("read chart: %w", err)
	}
	for r := tar.NewReader(io.LimitReader(zipped, chartMax)); ; {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil, errors.New("read chart: no Chart.yaml in it")
		}
		if err != nil {
			return nil, fmt.Errorf("read chart: %w", err)
		}
		if dir, name, _ := strings.Cut(header.Name, "/"); dir != "" && name == "Chart.yaml" {
			return io.ReadAll(r)
		}
	}
}
