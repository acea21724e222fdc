package main

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"slices"
)

// Measures of the chart.
const (
	chartWidth = 760
	chartLeft  = 140 // where bars begin
	chartRight = 70  // for the number behind the longest one
	barHeight  = 12
	barGap     = 2
	groupGap   = 14
	legendTop  = 44
	barsTop    = 72
)

// chartStyle has the colours, for light and for dark surroundings. The contenders' are told apart by those who see few colours, too.
const chartStyle = `text{font:12px sans-serif;fill:#1f2328}.t{font-size:15px;font-weight:bold}.n{font-size:10px;fill:#57606a}.bg{fill:#fff}.ax{stroke:#d0d7de}
.c0{fill:#0b62b8}.c1{fill:#d9822b}.c2{fill:#2e8b57}.c3{fill:#8e5bb5}.c4{fill:#8a8f98}
@media (prefers-color-scheme:dark){text{fill:#e6edf3}.n{fill:#9da7b1}.bg{fill:#0d1117}.ax{stroke:#3d444d}
.c0{fill:#58a6ff}.c1{fill:#f0a355}.c2{fill:#56c288}.c3{fill:#c39be3}.c4{fill:#aab2bd}}`

// group are the bars of one load.
type group struct {
	label string
	bars  []bar
}

type bar struct {
	contender int // its place in the legend
	value     float64
}

// charted are the pairs with ordinary bodies, under the loads that repeat requests.
func (r *report) charted() (names []string, groups []group) {
	for _, k := range kinds(1) {
		for _, l := range k.loads {
			if k.way != pair || k.size > 0 || l.connect {
				continue
			}
			g := group{label: k.name + " " + l.name}
			for _, w := range r.rows {
				if w.kind != k.name || w.load != l.name {
					continue
				}
				at := slices.Index(names, w.contender)
				if at < 0 {
					at, names = len(names), append(names, w.contender)
				}
				g.bars = append(g.bars, bar{at, micros(w.cpu())})
			}
			if len(g.bars) > 0 {
				groups = append(groups, g)
			}
		}
	}
	return names, groups
}

// chart draws what a request costs, as SVG.
func (r *report) chart() []byte {
	names, groups := r.charted()
	height, most := barsTop, 1.0
	for _, g := range groups {
		height += len(g.bars)*(barHeight+barGap) + groupGap
		for _, b := range g.bars {
			most = max(most, b.value)
		}
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" role="img">`+"\n<title>Processor time for one request</title>\n<style>%s</style>\n",
		chartWidth, height, chartWidth, height, chartStyle)
	fmt.Fprintf(&b, `<rect class="bg" width="%d" height="%d"/>`+"\n", chartWidth, height)
	fmt.Fprintf(&b, `<text class="t" x="16" y="24">Processor time of all proxies for one request, µs: less is better</text>`+"\n")
	for i, name := range names {
		x := 16 + i*130
		fmt.Fprintf(&b, `<rect class="c%d" x="%d" y="%d" width="%d" height="%d"/><text x="%d" y="%d">%s</text>`+"\n", i, x, legendTop, barHeight, barHeight, x+18, legendTop+10, escape(name))
	}
	y := barsTop
	for _, g := range groups {
		tall := len(g.bars) * (barHeight + barGap)
		fmt.Fprintf(&b, `<text x="%d" y="%d" text-anchor="end">%s</text><line class="ax" x1="%d" y1="%d" x2="%d" y2="%d"/>`+"\n",
			chartLeft-8, y+tall/2+3, escape(g.label), chartLeft, y-3, chartLeft, y+tall+1)
		for _, v := range g.bars {
			wide := v.value / most * (chartWidth - chartLeft - chartRight)
			fmt.Fprintf(&b, `<rect class="c%d" x="%d" y="%d" width="%.1f" height="%d"/><text class="n" x="%.1f" y="%d">%.1f</text>`+"\n",
				v.contender, chartLeft, y, wide, barHeight, chartLeft+wide+5, y+10, v.value)
			y += barHeight + barGap
		}
		y += groupGap
	}
	b.WriteString("</svg>\n")
	return b.Bytes()
}

func escape(text string) string {
	var b bytes.Buffer
	_ = xml.EscapeText(&b, []byte(text)) // a buffer takes everything
	return b.String()
}
