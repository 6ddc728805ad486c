package main

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"path/filepath"

	"github.com/hashicorp/go-dbw"
)

// makeDatabase makes a database for one run, and points the settings to it.
//
// SQLite is set as the other side sets it: journal_mode=WAL (a commit writes one log), synchronous=FULL (each
// commit is synced to the disk), foreign keys on. Its file is in the folder for temporary files, as there.
func makeDatabase(ctx context.Context, s *settings, server string) (remove func(), err error) {
	if s.dialect == "sqlite" {
		folder, err := os.MkdirTemp("", "kms-bench-go-")
		if err != nil {
			return nil, err
		}
		s.dsn = "file:" + filepath.Join(folder, "keys.sqlite3") +
			"?_journal_mode=WAL&_synchronous=FULL&_foreign_keys=on&_busy_timeout=10000"
		return func() { _ = os.RemoveAll(folder) }, nil
	}
	if server == "" {
		return nil, fmt.Errorf("postgres takes -dsn or -server")
	}
	address, err := url.Parse(server)
	if err != nil {
		return nil, err
	}
	name := fmt.Sprintf("kms_bench_go_%d", os.Getpid())
	if err := onServer(ctx, server, "create database "+name); err != nil {
		return nil, err
	}
	address.Path = "/" + name
	s.dsn = address.String()
	return func() { _ = onServer(ctx, server, "drop database "+name+" with (force)") }, nil
}

func onServer(ctx context.Context, server, statement string) error {
	db, err := dbw.Open(dbw.Postgres, server)
	if err != nil {
		return err
	}
	defer func() { _ = db.Close(ctx) }()
	// It would print statements that it finds slow where the figures go.
	db.LogLevel(dbw.Silent)
	_, err = dbw.New(db).Exec(ctx, statement, nil)
	return err
}
