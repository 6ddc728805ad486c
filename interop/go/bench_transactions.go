package main

import (
	"context"
	"time"

	"github.com/hashicorp/go-dbw"
	kms "github.com/hashicorp/go-kms-wrapping/extras/kms/v2"
)

// longTransactions has 32 callers, each making a scope in a transaction that stays open for 20 ms more.
// On Postgres only: SQLite has one writer anyway.
func (b *benchmark) longTransactions(ctx context.Context) error {
	const callers, open = 32, 20 * time.Millisecond
	name := b.on("create_in_32_long_transactions")
	if b.sys.settings.dialect != "postgres" || !b.wants(name) {
		return nil
	}
	pool, err := b.sys.db.SqlDB(ctx)
	if err != nil {
		return err
	}
	pool.SetMaxOpenConns(callers + 1)
	pool.SetMaxIdleConns(callers + 1)
	defer pool.SetMaxOpenConns(b.sys.settings.connections)
	defer pool.SetMaxIdleConns(b.sys.settings.connections)
	all := func(int) error {
		return inParallel(callers, callers, func(_, n int) error {
			for range n {
				if err := b.createSlowly(ctx, open); err != nil {
					return err
				}
			}
			return nil
		})
	}
	// Once before, so that all connections are there.
	if err := all(0); err != nil {
		return err
	}
	return b.counted(ctx, name, callers, all)
}

func (b *benchmark) createSlowly(ctx context.Context, open time.Duration) error {
	var tx *dbw.RW
	tx, err := b.sys.rw.Begin(ctx)
	if err != nil {
		return err
	}
	if err := b.sys.engine.CreateKeys(ctx, freshScope(), b.sys.settings.keyPurposes(), kms.WithTx(tx)); err != nil {
		_ = tx.Rollback(ctx)
		return err
	}
	time.Sleep(open)
	return tx.Commit(ctx)
}
