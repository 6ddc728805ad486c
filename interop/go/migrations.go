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
	if withMigrate {
		files, folder := s.migrationFiles()
		return s.golangMigrate(pool, files, folder, upTo)
	}
	return s.eachMigration(upTo, func(name, text string) error {
		if _, err := pool.ExecContext(ctx, s.prefixed(text)); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		return nil
	})
}

func (s *system) migrationFiles() (files fs.FS, folder string) {
	if s.settings.dialect == "postgres" {
		return migrations.PostgresFS, "postgres"
	}
	return migrations.SqliteFS, "sqlite"
}

// eachMigration goes through the migrations in their order, up to a number (0: all).
func (s *system) eachMigration(upTo uint, do func(name, text string) error) error {
	files, folder := s.migrationFiles()
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
		if err := do(entry.Name(), string(text)); err != nil {
			return err
		}
	}
	return nil
}

// statements are those of the migrations one by one, each under a line with the name of its file.
func (s *system) statements() ([]string, error) {
	var all []string
	err := s.eachMigration(0, func(name, text string) error {
		for _, statement := range split(text) {
			all = append(all, name+"\n"+statement)
		}
		return nil
	})
	return all, err
}

// split cuts at semicolons that are in no string, comment or body. It knows no more of SQL than the
// migrations need; the transactions that they begin and commit are left out.
func split(text string) []string {
	var statements []string
	var statement strings.Builder
	end := func() {
		found := strings.TrimSpace(statement.String())
		statement.Reset()
		if found != "" && found != "begin" && found != "commit" {
			statements = append(statements, found)
		}
	}
	for at := 0; at < len(text); at++ {
		rest := text[at:]
		quoted := 0
		switch {
		case strings.HasPrefix(rest, "--"):
			if at += strings.IndexByte(rest, '\n'); !strings.Contains(rest, "\n") {
				at = len(text)
			}
			statement.WriteByte('\n')
			continue
		case strings.HasPrefix(rest, "$$"):
			quoted = 2 + strings.Index(rest[2:], "$$") + 2
		case rest[0] == '\'':
			quoted = 1 + strings.IndexByte(rest[1:], '\'') + 1
		case rest[0] == ';':
			// The body of one of SQLite's triggers goes on to its end.
			lower := strings.ToLower(strings.TrimSpace(statement.String()))
			if body := strings.HasPrefix(lower, "create trigger") && strings.Contains(lower, "begin"); body && !strings.HasSuffix(lower, "end") {
				break
			}
			end()
			continue
		}
		if quoted > 0 {
			statement.WriteString(rest[:quoted])
			at += quoted - 1
			continue
		}
		statement.WriteByte(rest[0])
	}
	end()
	return statements
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
