package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	kms "github.com/hashicorp/go-kms-wrapping/extras/kms/v2"
	wrapping "github.com/hashicorp/go-kms-wrapping/v2"
	"github.com/hashicorp/go-kms-wrapping/v2/aead"
)

// sizes are the plaintexts whose encryption is timed.
var sizes = []int{32, 1 << 10, 16 << 10, 1 << 20}

// prepare makes the tables and the scopes, where they are not there.
func (b *benchmark) prepare(ctx context.Context) error {
	if _, err := b.sys.kms(ctx); err != nil {
		if err := b.sys.runMigrations(ctx, false, 0); err != nil {
			return err
		}
	}
	engine, err := b.sys.kms(ctx)
	if err != nil {
		return err
	}
	for number := range b.plan.scopes {
		if _, err := engine.ListKeys(ctx, benchScope(number)); err == nil {
			continue
		}
		if err := engine.CreateKeys(ctx, benchScope(number), b.sys.settings.keyPurposes()); err != nil {
			return err
		}
	}
	return nil
}

func benchScope(number int) string { return fmt.Sprintf("o_%010d", number) }

// fresh counts scopes that a case makes, over all runs of this process.
var fresh atomic.Int64

func freshScope() string { return benchScope(1_000_000_000 + int(fresh.Add(1))) }

func (b *benchmark) runAll(ctx context.Context) error {
	for _, group := range []struct {
		name  string
		cases []func(context.Context) error
	}{
		{"root", []func(context.Context) error{b.rootWrapper}},
		{"blobs", []func(context.Context) error{b.sealing}},
		{"cached", []func(context.Context) error{b.cached}},
		{"loading", []func(context.Context) error{b.cold, b.looking}},
		{"changing", []func(context.Context) error{b.creating, b.rotating, b.longTransactions}},
	} {
		if b.plan.groups != "" && !slices.Contains(strings.Split(b.plan.groups, ","), group.name) {
			continue
		}
		for _, run := range group.cases {
			if err := run(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// sealing is encryption with a wrapper at hand.
func (b *benchmark) sealing(ctx context.Context) error {
	key := make([]byte, 32)
	if _, err := rand.Read(key); err != nil {
		return err
	}
	wrapper := aead.NewWrapper()
	if _, err := wrapper.SetConfig(ctx, wrapping.WithKeyId("kdkv_0123456789")); err != nil {
		return err
	}
	if err := wrapper.SetAesGcmKeyBytes(key); err != nil {
		return err
	}
	aad := []byte("client:7")
	for _, size := range sizes {
		plaintext := make([]byte, size)
		err := b.quickAlone(ctx, fmt.Sprintf("encrypt_%d", size), func(ctx context.Context, n int) error {
			for range n {
				if _, _, err := seal(ctx, wrapper, plaintext, aad); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		blob, _, err := seal(ctx, wrapper, plaintext, aad)
		if err != nil {
			return err
		}
		err = b.quickAlone(ctx, fmt.Sprintf("decrypt_%d", size), func(ctx context.Context, n int) error {
			for range n {
				if _, err := unseal(ctx, wrapper, blob, aad); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// cached is what a request handler does, the keys being in the cache.
func (b *benchmark) cached(ctx context.Context) error {
	engine, purpose, scopes := b.sys.engine, b.purpose(), b.scopes()
	for _, scope := range scopes {
		if _, err := engine.GetWrapper(ctx, scope, purpose); err != nil {
			return err
		}
	}
	get := func(ctx context.Context, start, n int) error {
		for i := range n {
			if _, err := engine.GetWrapper(ctx, scopes[(start+i)%len(scopes)], purpose); err != nil {
				return err
			}
		}
		return nil
	}
	err := b.quick(ctx, b.on("wrapper_cached"), func(ctx context.Context, n int) error { return get(ctx, 0, n) })
	if err != nil {
		return err
	}
	const callers = 8
	err = b.quick(ctx, b.on("wrapper_cached_8_callers"), func(ctx context.Context, n int) error {
		return inParallel(callers, n, func(caller, n int) error {
			return get(ctx, caller*len(scopes)/callers, n)
		})
	})
	if err != nil {
		return err
	}
	plaintext, aad := make([]byte, 1<<10), []byte("client:7")
	return b.quick(ctx, b.on("row_1024"), func(ctx context.Context, n int) error {
		for i := range n {
			wrapper, err := engine.GetWrapper(ctx, scopes[i%len(scopes)], purpose)
			if err != nil {
				return err
			}
			if _, _, err := seal(ctx, wrapper, plaintext, aad); err != nil {
				return err
			}
		}
		return nil
	})
}

// cold is a first use, and the use after a change to some other scope.
func (b *benchmark) cold(ctx context.Context) error {
	purpose, scopes := b.purpose(), b.scopes()
	engines, err := b.engines(ctx)
	if err != nil {
		return err
	}
	err = b.counted(ctx, b.on("wrapper_cold"), len(scopes), func(repetition int) error {
		for _, scope := range scopes {
			if _, err := engines[repetition].GetWrapper(ctx, scope, purpose); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	// Of the two engines the second changes one scope, the first has all of them cached. The rotation is
	// timed with it: one for all scopes, as little as can be.
	other, err := b.sys.anotherEngine(ctx)
	if err != nil {
		return err
	}
	for _, scope := range scopes {
		if _, err := b.sys.engine.GetWrapper(ctx, scope, purpose); err != nil {
			return err
		}
	}
	last := len(scopes) - 1
	return b.counted(ctx, b.on("wrapper_after_other_rotation"), len(scopes), func(int) error {
		if err := other.RotateKeys(ctx, scopes[last]); err != nil {
			return err
		}
		for _, scope := range scopes[:last] {
			if _, err := b.sys.engine.GetWrapper(ctx, scope, purpose); err != nil {
				return err
			}
		}
		return nil
	})
}

func (b *benchmark) looking(ctx context.Context) error {
	scopes := b.scopes()
	err := b.counted(ctx, b.on("list_keys"), len(scopes), func(int) error {
		for _, scope := range scopes {
			if _, err := b.sys.engine.ListKeys(ctx, scope); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	// As at the start of a process: that is when it is done, and when nothing is cached.
	engines, err := b.engines(ctx)
	if err != nil {
		return err
	}
	return b.counted(ctx, b.on("reconcile_nothing_missing"), len(scopes), func(repetition int) error {
		return engines[repetition].ReconcileKeys(ctx, scopes, b.sys.settings.keyPurposes())
	})
}

// scopesOfACase is how many a case makes or changes, one by one.
const scopesOfACase = 50

func (b *benchmark) creating(ctx context.Context) error {
	purposes := b.sys.settings.keyPurposes()
	return b.counted(ctx, b.on("create_keys"), scopesOfACase, func(int) error {
		for range scopesOfACase {
			if err := b.sys.engine.CreateKeys(ctx, freshScope(), purposes); err != nil {
				return err
			}
		}
		return nil
	})
}

// rotating works on scopes made for it, anew for each measurement: versions add up, and each costs.
func (b *benchmark) rotating(ctx context.Context) error {
	engine, purposes := b.sys.engine, b.sys.settings.keyPurposes()
	for _, c := range []struct {
		name string
		do   func(scope string) error
	}{
		{"rotate_keys", func(scope string) error { return engine.RotateKeys(ctx, scope) }},
		{"rotate_keys_rewrap", func(scope string) error { return engine.RotateKeys(ctx, scope, kms.WithRewrap(true)) }},
		{"rewrap_keys", func(scope string) error { return engine.RewrapKeys(ctx, scope) }},
	} {
		if !b.wants(b.on(c.name)) {
			continue
		}
		rounds := make([][]string, b.plan.repetitions)
		for round := range rounds {
			for range scopesOfACase {
				scope := freshScope()
				if err := engine.CreateKeys(ctx, scope, purposes); err != nil {
					return err
				}
				rounds[round] = append(rounds[round], scope)
			}
		}
		err := b.counted(ctx, b.on(c.name), scopesOfACase, func(repetition int) error {
			for _, scope := range rounds[repetition] {
				if err := c.do(scope); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// inParallel divides n units among callers.
func inParallel(callers, n int, do func(caller, n int) error) error {
	failures := make([]error, callers)
	var group sync.WaitGroup
	for caller := range callers {
		share := n / callers
		if caller < n%callers {
			share++
		}
		group.Add(1)
		go func() {
			defer group.Done()
			failures[caller] = do(caller, share)
		}()
	}
	group.Wait()
	for _, err := range failures {
		if err != nil {
			return err
		}
	}
	return nil
}

func (b *benchmark) purpose() kms.KeyPurpose { return b.sys.settings.keyPurposes()[0] }

func (b *benchmark) scopes() []string {
	scopes := make([]string, b.plan.scopes)
	for number := range scopes {
		scopes[number] = benchScope(number)
	}
	return scopes
}

// engines are new ones, with nothing in their caches, one for each repetition.
func (b *benchmark) engines(ctx context.Context) ([]*kms.Kms, error) {
	engines := make([]*kms.Kms, b.plan.repetitions)
	for number := range engines {
		engine, err := b.sys.anotherEngine(ctx)
		if err != nil {
			return nil, err
		}
		engines[number] = engine
	}
	return engines, nil
}
