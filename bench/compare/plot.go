package main

import (
	"fmt"
	"html"
	"math"
	"strings"
)

const (
	barHeight = 14
	barRoom   = 420
	labelRoom = 330
)

var colours = map[string]string{"coequal": "#1b7f4d", "etcd": "#4a78c2", "galera": "#c2803a", "orientdb": "#8a5fb0"}

// charts: bars of the rates and of p99, a group for each workload.
func (r *results) charts() map[string]string {
	return map[string]string{
		"rates.svg": r.chart("Requests a second (more is better)", rate),
		"p99.svg":   r.chart("p99 in ms (less is better)", p99),
	}
}

func (r *results) chart(title string, of func(measured) float64) string {
	var body strings.Builder
	y := 40
	for _, name := range r.names {
		if name == string(kill) {
			continue
		}
		most := 0.0
		for _, system := range r.order {
			if o := r.of(name, system); o != nil {
				most = math.Max(most, o.median(of))
			}
		}
		fmt.Fprintf(&body, `<text x="%d" y="%d" text-anchor="end">%s</text>`+"\n", labelRoom-8, y+barHeight, html.EscapeString(name))
		for _, system := range r.order {
			o := r.of(name, system)
			if o == nil {
				continue
			}
			width := 1.0
			if most > 0 {
				width = math.Max(1, barRoom*o.median(of)/most)
			}
			fmt.Fprintf(&body, `<rect x="%d" y="%d" width="%.0f" height="%d" fill="%s"/>`, labelRoom, y, width, barHeight-2, colours[system])
			fmt.Fprintf(&body, `<text x="%.0f" y="%d">%s %.4g</text>`+"\n", labelRoom+width+5, y+barHeight-4, system, o.median(of))
			y += barHeight
		}
		y += 8
	}
	return fmt.Sprintf(`<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="sans-serif" font-size="11">
<rect width="100%%" height="100%%" fill="white"/>
<text x="%d" y="22" font-size="15">%s</text>
%s</svg>
`, labelRoom+barRoom+160, y+10, labelRoom, html.EscapeString(title), body.String())
}
