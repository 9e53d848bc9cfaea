package metrics

import (
	"runtime"
	"runtime/debug"
)

// Build is a Source of what was built: always 1, the labels say what.
func Build(version string) Source {
	const name = "bt_build_info"
	revision := ""
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				revision = s.Value
			}
		}
	}
	return Source{
		Metrics: []Metric{{name, Gauge, []string{"version", "revision", "goversion"}, "What this program was built of; always 1."}},
		Collect: func(s *Sink) { s.Is(name, true, version, revision, runtime.Version()) },
	}
}
