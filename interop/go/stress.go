package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math/rand"
	"sync"
	"time"

	kms "github.com/hashicorp/go-kms-wrapping/extras/kms/v2"
)

// stressPlan says what the random operations work on. Scopes named stable_N are only ever rotated and
// rewrapped; those named volatile_N are also deleted and made anew.
type stressPlan struct {
	name     string
	seconds  float64
	seed     int64
	stable   int
	volatile int
	workers  int
}

func (p *stressPlan) register(flags *flag.FlagSet) {
	flags.StringVar(&p.name, "name", "go", "what the report is called")
	flags.Float64Var(&p.seconds, "seconds", 10, "for how long")
	flags.Int64Var(&p.seed, "seed", 1, "of the random choices")
	flags.IntVar(&p.stable, "stable", 4, "scopes that stay")
	flags.IntVar(&p.volatile, "volatile", 4, "scopes that come and go")
	flags.IntVar(&p.workers, "workers", 2, "workers in this process")
}

// attempts is how often an operation is tried. Go kms reads root keys, root key versions, data keys and
// their versions by queries of their own, and a change between them makes it fail once.
const attempts = 20

// stressReport is what both languages say at the end.
type stressReport struct {
	Name     string         `json:"name"`
	Did      map[string]int `json:"did"`
	Retries  int            `json:"retries"`
	Rotated  map[string]int `json:"rotated"`
	Failures []string       `json:"failures"`
}

type stressRun struct {
	sys    *system
	plan   *stressPlan
	mutex  sync.Mutex
	report stressReport
}

func stress(ctx context.Context, s *settings, plan *stressPlan, out io.Writer) error {
	sys, err := open(ctx, s)
	if err != nil {
		return err
	}
	if _, err := sys.kms(ctx); err != nil {
		return err
	}
	run := &stressRun{sys: sys, plan: plan, report: stressReport{
		Name: plan.name, Did: map[string]int{}, Rotated: map[string]int{}, Failures: []string{},
	}}
	deadline := time.Now().Add(time.Duration(plan.seconds * float64(time.Second)))
	var workers sync.WaitGroup
	for number := 0; number < plan.workers; number++ {
		workers.Add(1)
		go func() {
			defer workers.Done()
			random := rand.New(rand.NewSource(plan.seed + int64(number)*1000))
			for time.Now().Before(deadline) {
				run.step(ctx, random)
			}
		}()
	}
	workers.Wait()
	return json.NewEncoder(out).Encode(run.report)
}

// step does one operation.
func (r *stressRun) step(ctx context.Context, random *rand.Rand) {
	purposes := r.sys.settings.keyPurposes()
	purpose := purposes[random.Intn(len(purposes))]
	number := random.Intn(r.plan.stable + r.plan.volatile)
	scope, stable := fmt.Sprintf("stable_%d", number), true
	if number >= r.plan.stable {
		scope, stable = fmt.Sprintf("volatile_%d", number-r.plan.stable), false
	}
	kind := random.Intn(100)
	switch {
	case kind < 35:
		r.encrypt(ctx, scope, purpose, random, stable)
	case kind < 75:
		r.decrypt(ctx, scope, random)
	case kind < 82:
		r.change(ctx, "rotate", scope, stable, func() error { return r.sys.engine.RotateKeys(ctx, scope) })
	case kind < 88:
		r.change(ctx, "rotate and rewrap", scope, stable, func() error {
			return r.sys.engine.RotateKeys(ctx, scope, kms.WithRewrap(true))
		})
	case kind < 94:
		r.change(ctx, "rewrap", scope, stable, func() error { return r.sys.engine.RewrapKeys(ctx, scope) })
	case stable:
	case kind < 97:
		r.create(ctx, scope)
	default:
		r.delete(ctx, scope)
	}
}

// encrypt writes a row as an application does.
func (r *stressRun) encrypt(ctx context.Context, scope string, purpose kms.KeyPurpose, random *rand.Rand, stable bool) {
	plaintext := make([]byte, 1+random.Intn(2048))
	random.Read(plaintext)
	var aad []byte
	if random.Intn(2) == 0 {
		aad = []byte(scope)
	}
	r.retry(ctx, "encrypt", scope, stable, func() error {
		blob, version, err := r.sys.encrypt(ctx, scope, purpose, plaintext, aad)
		if err != nil {
			return err
		}
		_, err = r.sys.rw.Exec(ctx,
			`insert into interop_record (organization_id, purpose, key_version_id, aad, plaintext, blob)
			 values (?, ?, ?, ?, ?, ?)`,
			[]any{scope, string(purpose), version, orEmpty(aad), plaintext, blob})
		return err
	})
}

// decrypt reads a row. It may fail only if the row is gone, with its scope.
func (r *stressRun) decrypt(ctx context.Context, scope string, random *rand.Rand) {
	pool, err := r.sys.db.SqlDB(ctx)
	if err != nil {
		r.failed("decrypt", scope, err)
		return
	}
	var id int64
	var found record
	row := pool.QueryRowContext(ctx,
		`select id, purpose, aad, plaintext, blob from interop_record
		 where organization_id = $1 order by id desc limit 1 offset $2`, scope, random.Intn(25))
	if row.Scan(&id, &found.Purpose, &found.Aad, &found.Plaintext, &found.Blob) != nil {
		return
	}
	found.Scope = scope
	for attempt := 1; ; attempt++ {
		plaintext, err := r.sys.decrypt(ctx, scope, kms.KeyPurpose(found.Purpose), found.Blob, found.Aad)
		if err == nil && string(plaintext) != string(found.Plaintext) {
			err = fmt.Errorf("decrypts to something else")
		}
		if err == nil {
			r.did("decrypt")
			return
		}
		if !r.exists(ctx, `select count(*) from interop_record where id = $1`, id) {
			r.did("decrypt of a row that went")
			return
		}
		if attempt == attempts {
			r.failed("decrypt", scope, err)
			return
		}
		r.pause(attempt)
	}
}

func (r *stressRun) change(ctx context.Context, name, scope string, stable bool, work func() error) {
	if r.retry(ctx, name, scope, stable, work) && name != "rewrap" {
		r.mutex.Lock()
		r.report.Rotated[scope]++
		r.mutex.Unlock()
	}
}

// create makes a scope's row and its keys in one transaction, the row first.
func (r *stressRun) create(ctx context.Context, scope string) {
	if r.exists(ctx, `select count(*) from organization where id = $1`, scope) {
		return
	}
	tx, err := r.sys.rw.Begin(ctx)
	if err != nil {
		r.failed("create", scope, err)
		return
	}
	_, err = tx.Exec(ctx, `insert into organization (id) values (?)`, []any{scope})
	if err == nil {
		err = r.sys.engine.CreateKeys(ctx, scope, r.sys.settings.keyPurposes(), kms.WithTx(tx))
	}
	if err == nil {
		err = tx.Commit(ctx)
	} else {
		_ = tx.Rollback(ctx)
	}
	switch {
	case err == nil:
		r.did("create")
	case kindOf(err) == "23505":
		r.did("create of a scope that came")
	default:
		r.failed("create", scope, err)
	}
}

func (r *stressRun) delete(ctx context.Context, scope string) {
	switch rows, err := r.sys.rw.Exec(ctx, `delete from organization where id = ?`, []any{scope}); {
	case err != nil:
		r.failed("delete", scope, err)
	case rows == 1:
		r.did("delete")
	}
}

// retry tries a bounded number of times, and takes a scope that is gone for an answer.
func (r *stressRun) retry(ctx context.Context, name, scope string, stable bool, work func() error) bool {
	for attempt := 1; ; attempt++ {
		err := work()
		if err == nil {
			r.did(name)
			return true
		}
		if !stable && !r.exists(ctx, `select count(*) from kms_root_key where scope_id = $1`, scope) {
			r.did(name + " of a scope that went")
			return false
		}
		if attempt == attempts {
			r.failed(name, scope, err)
			return false
		}
		r.pause(attempt)
	}
}

func (r *stressRun) exists(ctx context.Context, query string, arg any) bool {
	pool, err := r.sys.db.SqlDB(ctx)
	if err != nil {
		return true
	}
	var count int
	return pool.QueryRowContext(ctx, query, arg).Scan(&count) != nil || count > 0
}

func (r *stressRun) pause(attempt int) {
	r.mutex.Lock()
	r.report.Retries++
	r.mutex.Unlock()
	time.Sleep(time.Duration(attempt) * 5 * time.Millisecond)
}

func (r *stressRun) did(name string) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	r.report.Did[name]++
}

func (r *stressRun) failed(name, scope string, err error) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	r.report.Failures = append(r.report.Failures, fmt.Sprintf("%s %s: %s: %v", name, scope, kindOf(err), err))
}

func orEmpty(bytes []byte) []byte {
	if bytes == nil {
		return []byte{}
	}
	return bytes
}
