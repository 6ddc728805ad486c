package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"sort"
	"strings"
	"time"
)

// benchPlan says what is timed, in the words of the program of bench/, which does the same work.
type benchPlan struct {
	groups      string
	cases       string
	server      string
	budget      int
	batch       int
	repetitions int
	scopes      int
}

func (p *benchPlan) register(flags *flag.FlagSet) {
	flags.StringVar(&p.groups, "groups", "", "root, cached, blobs, loading or changing, separated by commas; all when empty")
	flags.StringVar(&p.cases, "cases", "", "parts of the names of the cases to run, separated by commas; all when empty")
	flags.StringVar(&p.server, "server", "", "the Postgres server on which a database is made for the run, and dropped; KMS_TEST_POSTGRES_URL when empty")
	flags.IntVar(&p.budget, "budget", 300, "milliseconds for each quick case")
	flags.IntVar(&p.batch, "batch", 10, "milliseconds that one measurement of a quick case takes")
	flags.IntVar(&p.repetitions, "repetitions", 5, "measurements of work that is done a given number of times")
	flags.IntVar(&p.scopes, "scopes", 200, "scopes in the database")
}

// measurement is a case's result: nanoseconds for one unit of the work, an operation or a scope. The fastest
// batch counts, as on the other side.
type measurement struct {
	Case     string  `json:"case"`
	Ns       float64 `json:"ns"`
	MedianNs float64 `json:"median_ns"`
	Go       string  `json:"go"`
}

// work is one case: it does the unit n times.
type work func(ctx context.Context, n int) error

// benchmark runs cases, and prints one line of JSON for each.
type benchmark struct {
	sys  *system
	plan *benchPlan
	out  *json.Encoder
}

func bench(ctx context.Context, s *settings, plan *benchPlan, out io.Writer) (err error) {
	if s.root == "" {
		key := make([]byte, 32)
		if _, err := rand.Read(key); err != nil {
			return err
		}
		s.root = "aead:" + hex.EncodeToString(key)
	}
	onDatabase := plan.groups != "blobs" && plan.groups != "root"
	if onDatabase && s.dsn == "" {
		server := plan.server
		if server == "" {
			server = os.Getenv("KMS_TEST_POSTGRES_URL")
		}
		remove, err := makeDatabase(ctx, s, server)
		if err != nil {
			return err
		}
		defer remove()
	}
	sys, err := open(ctx, s)
	if err != nil {
		return err
	}
	b := &benchmark{sys: sys, plan: plan, out: json.NewEncoder(out)}
	if onDatabase {
		if err := b.prepare(ctx); err != nil {
			return err
		}
	}
	return b.runAll(ctx)
}

func (b *benchmark) wants(name string) bool {
	if b.plan.cases == "" {
		return true
	}
	return slices.ContainsFunc(strings.Split(b.plan.cases, ","), func(part string) bool {
		return strings.Contains(name, part)
	})
}

// on is the name of a case that depends on the database.
func (b *benchmark) on(name string) string { return name + "_" + b.sys.settings.dialect }

// quick times work that takes less than a batch: it finds how many units fill one, then measures that many, as
// often as the budget allows.
func (b *benchmark) quick(ctx context.Context, name string, do work) error {
	start := time.Now()
	return b.quickBy(ctx, func() time.Duration { return time.Since(start) }, name, do)
}

// quickAlone times work that waits for nothing by the clock of its thread, which stands still while others run.
// Garbage that is collected on another thread meanwhile costs nothing here.
func (b *benchmark) quickAlone(ctx context.Context, name string, do work) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	return b.quickBy(ctx, threadTime, name, do)
}

func (b *benchmark) quickBy(ctx context.Context, clock func() time.Duration, name string, do work) error {
	if !b.wants(name) {
		return nil
	}
	batch := time.Duration(b.plan.batch) * time.Millisecond
	n := 1
	for {
		start := clock()
		if err := do(ctx, n); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		took := clock() - start
		if took >= batch/4 {
			n = max(1, int(float64(n)*float64(batch)/float64(took)))
			break
		}
		n *= 4
	}
	deadline := time.Now().Add(time.Duration(b.plan.budget) * time.Millisecond)
	var samples []float64
	for len(samples) < 5 || time.Now().Before(deadline) {
		start := clock()
		if err := do(ctx, n); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		samples = append(samples, float64((clock()-start).Nanoseconds())/float64(n))
	}
	return b.keep(name, samples)
}

// counted times work of a given number of units. Repetitions are numbered from 0.
func (b *benchmark) counted(ctx context.Context, name string, units int, do func(repetition int) error) error {
	if !b.wants(name) {
		return nil
	}
	var samples []float64
	for repetition := range b.plan.repetitions {
		runtime.GC()
		start := time.Now()
		if err := do(repetition); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		samples = append(samples, float64(time.Since(start).Nanoseconds())/float64(units))
	}
	return b.keep(name, samples)
}

func (b *benchmark) keep(name string, samples []float64) error {
	sort.Float64s(samples)
	return b.out.Encode(measurement{
		Case: name, Ns: samples[0], MedianNs: samples[len(samples)/2], Go: runtime.Version(),
	})
}
