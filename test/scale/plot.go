package main

import (
	"fmt"
	"html"
	"math"
	"strings"
)

// line is one line of a chart.
type line struct {
	name   string
	points [][2]float64
}

// chart is a plot of lines over a logarithmic x and a linear y that begins at zero.
type chart struct {
	title, x, y string
	top         float64 // of y
	percent     bool
	lines       []line
}

// Sizes of a chart in pixels.
const (
	chartWidth, chartHeight = 640, 300
	marginLeft, marginRight = 60, 20
	marginTop, marginBottom = 40, 50
	legendHeight            = 22
)

// colors tell lines apart; seen by who sees few colors, too.
func colors() []string { return []string{"#0072b2", "#d55e00", "#009e73", "#cc79a7"} }

// plot draws charts below one another, as SVG.
func plot(charts []chart) string {
	var b strings.Builder
	each := chartHeight + legendHeight
	for _, c := range charts {
		each = max(each, chartHeight+legendHeight*len(c.lines))
	}
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="sans-serif" font-size="12">`+"\n", chartWidth, each*len(charts))
	fmt.Fprintf(&b, `<rect width="100%%" height="100%%" fill="white"/>`+"\n")
	for i, c := range charts {
		fmt.Fprintf(&b, `<g transform="translate(0,%d)">`+"\n", i*each)
		c.draw(&b)
		b.WriteString("</g>\n")
	}
	b.WriteString("</svg>\n")
	return b.String()
}

func (c chart) draw(b *strings.Builder) {
	right := 1.0
	for _, l := range c.lines {
		for _, p := range l.points {
			right = max(right, p[0])
		}
	}
	width, height := float64(chartWidth-marginLeft-marginRight), float64(chartHeight-marginTop-marginBottom)
	x := func(v float64) float64 { return marginLeft + width*math.Log(max(v, 1))/math.Log(max(right, 2)) }
	y := func(v float64) float64 { return marginTop + height*(1-min(v, c.top)/c.top) }
	text := func(x, y float64, anchor, s string) {
		fmt.Fprintf(b, `<text x="%.0f" y="%.0f" text-anchor="%s">%s</text>`+"\n", x, y, anchor, html.EscapeString(s))
	}
	rule := func(x1, y1, x2, y2 float64, color string) {
		fmt.Fprintf(b, `<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="%s"/>`+"\n", x1, y1, x2, y2, color)
	}
	text(marginLeft, 20, "start", c.title)
	for i := range 5 {
		v := c.top * float64(i) / 4
		rule(marginLeft, y(v), chartWidth-marginRight, y(v), "#ddd")
		label := fmt.Sprintf("%.2f", v)
		if c.percent {
			label = fmt.Sprintf("%.0f %%", 100*v)
		}
		text(marginLeft-6, y(v)+4, "end", label)
	}
	for v := 1.0; v <= right; v *= 10 {
		rule(x(v), marginTop, x(v), chartHeight-marginBottom, "#ddd")
		text(x(v), chartHeight-marginBottom+16, "middle", fmt.Sprintf("%.0f", v))
	}
	text(marginLeft+width/2, chartHeight-marginBottom+34, "middle", c.x)
	text(marginLeft, marginTop-6, "end", c.y)
	for i, l := range c.lines {
		color := colors()[i%len(colors())]
		var points []string
		for _, p := range l.points {
			points = append(points, fmt.Sprintf("%.1f,%.1f", x(p[0]), y(p[1])))
		}
		fmt.Fprintf(b, `<polyline points="%s" fill="none" stroke="%s" stroke-width="2"/>`+"\n", strings.Join(points, " "), color)
		at := float64(chartHeight + legendHeight*i)
		rule(marginLeft, at-4, marginLeft+30, at-4, color)
		text(marginLeft+36, at, "start", l.name)
	}
}
