package metrics

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/net/netutil"
)

// Bounds of the server. What asks is one Prometheus, or two, and now and then a person.
const (
	connectionsMax  = 8
	scrapesMax      = 2
	headerBytesMax  = 8 << 10
	readTimeout     = 5 * time.Second
	writeTimeout    = 30 * time.Second
	idleTimeout     = 30 * time.Second
	shutdownTimeout = time.Second
)

// index is what / says.
const index = "The metrics of this program are at /metrics, in the text format of Prometheus.\n"

// Server answers on one listener until Close.
type Server struct {
	http http.Server
	wg   sync.WaitGroup
	addr net.Addr
}

// Serve answers on l, which it owns, what the sources tell, beside what Go and the system know of the process. It returns at once.
func Serve(l net.Listener, log *slog.Logger, sources ...Source) *Server {
	s := &Server{addr: l.Addr()}
	s.http = http.Server{Handler: handler(registry(sources), log), ReadHeaderTimeout: readTimeout, ReadTimeout: readTimeout, WriteTimeout: writeTimeout,
		IdleTimeout: idleTimeout, MaxHeaderBytes: headerBytesMax, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug)}
	s.wg.Go(func() {
		if err := s.http.Serve(netutil.LimitListener(l, connectionsMax)); err != http.ErrServerClosed {
			log.Error("metrics are not served any more", "error", err)
		}
	})
	return s
}

// Addr is where it listens.
func (s *Server) Addr() net.Addr { return s.addr }

// Close ends it, after a moment for answers that are under way. Sources are not asked any more when it has returned, but for one that takes longer
// than that moment.
func (s *Server) Close() {
	ctx, cancel := context.WithTimeout(context.Background(), shutdownTimeout)
	defer cancel()
	if s.http.Shutdown(ctx) != nil {
		s.http.Close() // who still asks has had his moment
	}
	s.wg.Wait()
}

func registry(sources []Source) *prometheus.Registry {
	r := prometheus.NewRegistry()
	// Those of package collectors are the same, and bring database/sql along.
	r.MustRegister(prometheus.NewGoCollector(), prometheus.NewProcessCollector(prometheus.ProcessCollectorOpts{}))
	for _, s := range sources {
		r.MustRegister(newCollector(s))
	}
	return r
}

func handler(r *prometheus.Registry, log *slog.Logger) http.Handler {
	mux := http.NewServeMux()
	// What cannot be told is left out and logged; a monitor that gets all else can say so.
	mux.Handle("GET /metrics", promhttp.HandlerFor(r, promhttp.HandlerOpts{ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelError),
		ErrorHandling: promhttp.ContinueOnError, MaxRequestsInFlight: scrapesMax}))
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		io.WriteString(w, index) // who left does not miss it
	})
	return mux
}
