package main

import (
	"context"
	"crypto/rand"
	"fmt"
)

// rootWrapper times the root wrapper itself, without a database: a key wrapped and unwrapped, which a service
// does in one round trip each.
func (b *benchmark) rootWrapper(ctx context.Context) error {
	key := make([]byte, 32)
	if _, err := rand.Read(key); err != nil {
		return err
	}
	blob, _, err := seal(ctx, b.sys.root, key, nil)
	if err != nil {
		return fmt.Errorf("root_wrap: %w", err)
	}
	err = b.quick(ctx, "root_wrap", func(ctx context.Context, n int) error {
		for range n {
			if _, _, err := seal(ctx, b.sys.root, key, nil); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return b.quick(ctx, "root_unwrap", func(ctx context.Context, n int) error {
		for range n {
			if _, err := unseal(ctx, b.sys.root, blob, nil); err != nil {
				return err
			}
		}
		return nil
	})
}
