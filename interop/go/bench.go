package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime"
	"sort"
	"strings"
	"time"
)

// benchPlan says what is timed. The database must be empty, or made by an earlier run of this.
type benchPlan struct {
	cases       string
	repetitions int
	millis      int
	scopes      int
}

func (p *benchPlan) register(flags *flag.FlagSet) {
	flags.StringVar(&p.cases, "cases", "", "parts of the names of the cases to run, separated by commas; all when empty")
	flags.IntVar(&p.repetitions, "repetitions", 7, "measurements of each case")
	flags.IntVar(&p.millis, "millis", 100, "how long one measurement of a quick case takes, at least")
	flags.IntVar(&p.scopes, "scopes", 200, "scopes in the database")
}

// timing is a case's result. Figures are nanoseconds for one unit of the work: an operation or a scope.
type timing struct {
	Case        string    `json:"case"`
	Unit        string    `json:"unit"`
	MinNs       float64   `json:"min_ns"`
	MedianNs    float64   `json:"median_ns"`
	Repetitions []float64 `json:"repetitions_ns"`
}

type benchReport struct {
	Language string   `json:"language"`
	Version  string   `json:"version"`
	Dialect  string   `json:"dialect"`
	Scopes   int      `json:"scopes"`
	Purposes int      `json:"purposes"`
	Timings  []timing `json:"timings"`
}

// work is one case: it does the unit n times.
type work func(ctx context.Context, n int) error

// benchmark runs cases and keeps their timings.
type benchmark struct {
	sys    *system
	plan   *benchPlan
	report benchReport
}

func bench(ctx context.Context, s *settings, plan *benchPlan, out io.Writer) error {
	sys, err := open(ctx, s)
	if err != nil {
		return err
	}
	b := &benchmark{sys: sys, plan: plan, report: benchReport{
		Language: "go", Version: runtime.Version(), Dialect: s.dialect,
		Scopes: plan.scopes, Purposes: len(s.keyPurposes()), Timings: []timing{},
	}}
	if err := b.prepare(ctx); err != nil {
		return err
	}
	if err := b.runAll(ctx); err != nil {
		return err
	}
	return json.NewEncoder(out).Encode(b.report)
}

func (b *benchmark) wants(name string) bool {
	if b.plan.cases == "" {
		return true
	}
	for _, part := range strings.Split(b.plan.cases, ",") {
		if strings.Contains(name, part) {
			return true
		}
	}
	return false
}

// quick times work that takes micro- or milliseconds: it finds how many units fill the time of one
// measurement, then measures that many, several times.
func (b *benchmark) quick(ctx context.Context, name, unit string, do work) error {
	if !b.wants(name) {
		return nil
	}
	least := time.Duration(b.plan.millis) * time.Millisecond
	n := 1
	for {
		start := time.Now()
		if err := do(ctx, n); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		took := time.Since(start)
		if took >= least {
			break
		}
		n = max(n*2, int(float64(n)*float64(least)/float64(max(took, time.Microsecond))))
	}
	return b.counted(ctx, name, unit, n, do)
}

// counted times work of a given number of units.
func (b *benchmark) counted(ctx context.Context, name, unit string, n int, do work) error {
	if !b.wants(name) {
		return nil
	}
	var each []float64
	for range b.plan.repetitions {
		runtime.GC()
		start := time.Now()
		if err := do(ctx, n); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		each = append(each, float64(time.Since(start).Nanoseconds())/float64(n))
	}
	sorted := append([]float64(nil), each...)
	sort.Float64s(sorted)
	result := timing{Case: name, Unit: unit, MinNs: sorted[0], MedianNs: sorted[len(sorted)/2], Repetitions: each}
	b.report.Timings = append(b.report.Timings, result)
	fmt.Fprintf(os.Stderr, "%-32s %12.0f ns per %s\n", name, result.MedianNs, unit)
	return nil
}
