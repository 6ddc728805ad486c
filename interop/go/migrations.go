package main

import (
	"context"
	"database/sql"
	"fmt"
	"io/fs"
	"strings"

	"github.com/golang-migrate/migrate/v4"
	"github.com/golang-migrate/migrate/v4/database"
	"github.com/golang-migrate/migrate/v4/database/postgres"
	"github.com/golang-migrate/migrate/v4/database/sqlite3"
	"github.com/golang-migrate/migrate/v4/source/iofs"
	kms "github.com/hashicorp/go-kms-wrapping/extras/kms/v2"
	"github.com/hashicorp/go-kms-wrapping/extras/kms/v2/migrations"
)

// runMigrations runs the migrations of the module up to a number (0: all), either each file as it is, or
// by golang-migrate, which keeps a bookkeeping table of its own.
func (s *system) runMigrations(ctx context.Context, withMigrate bool, upTo uint) error {
	if s.db == nil {
		return fmt.Errorf("started without a database")
	}
	pool, err := s.db.SqlDB(ctx)
	if err != nil {
		return err
	}
	files, folder := fs.FS(migrations.SqliteFS), "sqlite"
	if s.settings.dialect == "postgres" {
		files, folder = migrations.PostgresFS, "postgres"
	}
	if withMigrate {
		return s.golangMigrate(pool, files, folder, upTo)
	}
	entries, err := fs.ReadDir(files, folder)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		var number uint
		if _, err := fmt.Sscanf(entry.Name(), "%d_", &number); err != nil {
			return err
		}
		if upTo != 0 && number > upTo {
			break
		}
		text, err := fs.ReadFile(files, folder+"/"+entry.Name())
		if err != nil {
			return err
		}
		if _, err := pool.ExecContext(ctx, s.prefixed(string(text))); err != nil {
			return fmt.Errorf("%s: %w", entry.Name(), err)
		}
	}
	return nil
}

// prefixed gives the tables, and with them everything else of those names, the prefix of the settings,
// as users of WithTableNamePrefix do by hand.
func (s *system) prefixed(text string) string {
	if s.settings.prefix == kms.DefaultTableNamePrefix {
		return text
	}
	return strings.ReplaceAll(text, "kms_", s.settings.prefix+"_")
}

func (s *system) golangMigrate(pool *sql.DB, files fs.FS, folder string, upTo uint) error {
	source, err := iofs.New(files, folder)
	if err != nil {
		return err
	}
	var driver database.Driver
	if folder == "postgres" {
		driver, err = postgres.WithInstance(pool, &postgres.Config{})
	} else {
		driver, err = sqlite3.WithInstance(pool, &sqlite3.Config{})
	}
	if err != nil {
		return err
	}
	m, err := migrate.NewWithInstance("iofs", source, folder, driver)
	if err != nil {
		return err
	}
	if upTo != 0 {
		return m.Migrate(upTo)
	}
	return m.Up()
}
