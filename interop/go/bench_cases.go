package main

import (
	"context"
	"crypto/rand"
	"fmt"
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

func benchScope(number int) string { return fmt.Sprintf("bench_%06d", number) }

// fresh counts scopes that a case makes, over all runs of this process.
var fresh atomic.Int64

func (b *benchmark) runAll(ctx context.Context) error {
	for _, run := range []func(context.Context) error{
		b.sealing, b.cached, b.cold, b.creating, b.looking, b.rotating, b.longTransactions,
	} {
		if err := run(ctx); err != nil {
			return err
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
		err := b.quick(ctx, fmt.Sprintf("encrypt_%d", size), "op", func(ctx context.Context, n int) error {
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
		err = b.quick(ctx, fmt.Sprintf("decrypt_%d", size), "op", func(ctx context.Context, n int) error {
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
	engine, purpose := b.sys.engine, b.purpose()
	get := func(ctx context.Context, n int) error {
		for i := range n {
			if _, err := engine.GetWrapper(ctx, benchScope(i%8), purpose); err != nil {
				return err
			}
		}
		return nil
	}
	if err := b.quick(ctx, "wrapper_cached", "op", get); err != nil {
		return err
	}
	err := b.quick(ctx, "wrapper_cached_8_callers", "op", func(ctx context.Context, n int) error {
		return inParallel(8, n, func(_, n int) error { return get(ctx, n) })
	})
	if err != nil {
		return err
	}
	plaintext, aad := make([]byte, 1<<10), []byte("client:7")
	return b.quick(ctx, "row_1024", "op", func(ctx context.Context, n int) error {
		for i := range n {
			wrapper, err := engine.GetWrapper(ctx, benchScope(i%8), purpose)
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
	purpose := b.purpose()
	err := b.counted(ctx, "wrapper_cold", "scope", b.plan.scopes, func(ctx context.Context, n int) error {
		engine, err := b.sys.anotherEngine(ctx)
		if err != nil {
			return err
		}
		for number := range n {
			if _, err := engine.GetWrapper(ctx, benchScope(number), purpose); err != nil {
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
	return b.counted(ctx, "wrapper_after_other_rotation", "scope", b.plan.scopes, func(ctx context.Context, n int) error {
		other, err := b.sys.anotherEngine(ctx)
		if err != nil {
			return err
		}
		if err := other.RotateKeys(ctx, benchScope(b.plan.scopes-1)); err != nil {
			return err
		}
		for number := range n {
			if _, err := b.sys.engine.GetWrapper(ctx, benchScope(number), purpose); err != nil {
				return err
			}
		}
		return nil
	})
}

func (b *benchmark) creating(ctx context.Context) error {
	purposes := b.sys.settings.keyPurposes()
	return b.counted(ctx, "create_keys", "scope", 50, func(ctx context.Context, n int) error {
		for range n {
			scope := fmt.Sprintf("made_%d_%d", processTag, fresh.Add(1))
			if err := b.sys.engine.CreateKeys(ctx, scope, purposes); err != nil {
				return err
			}
		}
		return nil
	})
}

func (b *benchmark) looking(ctx context.Context) error {
	err := b.counted(ctx, "list_keys", "scope", b.plan.scopes, func(ctx context.Context, n int) error {
		for number := range n {
			if _, err := b.sys.engine.ListKeys(ctx, benchScope(number)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return b.counted(ctx, "reconcile_nothing_missing", "scope", b.plan.scopes, func(ctx context.Context, n int) error {
		engine, err := b.sys.anotherEngine(ctx)
		if err != nil {
			return err
		}
		scopes := make([]string, n)
		for number := range scopes {
			scopes[number] = benchScope(number)
		}
		return engine.ReconcileKeys(ctx, scopes, b.sys.settings.keyPurposes())
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
		if !b.wants(c.name) {
			continue
		}
		const scopes = 50
		rounds := make([][]string, b.plan.repetitions)
		for round := range rounds {
			for range scopes {
				scope := fmt.Sprintf("turned_%d_%d", processTag, fresh.Add(1))
				if err := engine.CreateKeys(ctx, scope, purposes); err != nil {
					return err
				}
				rounds[round] = append(rounds[round], scope)
			}
		}
		round := 0
		err := b.counted(ctx, c.name, "scope", scopes, func(ctx context.Context, n int) error {
			mine := rounds[round]
			round++
			for _, scope := range mine {
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
