package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"

	kms "github.com/hashicorp/go-kms-wrapping/extras/kms/v2"
)

// obey does one request.
func (s *system) obey(ctx context.Context, asked *request) (*answer, error) {
	switch asked.Op {
	case "migrate":
		return &answer{}, s.runMigrations(ctx, asked.Migrate, asked.UpTo)
	case "statements":
		statements, err := s.statements()
		return &answer{Names: statements}, err
	case "wrap":
		blob, id, err := seal(ctx, s.root, asked.Plaintext, asked.Aad)
		return &answer{Blob: blob, KeyVersion: id}, err
	case "unwrap":
		plaintext, err := unseal(ctx, s.root, asked.Blob, asked.Aad)
		return &answer{Plaintext: plaintext}, err
	}
	engine, err := s.kms(ctx)
	if err != nil {
		return nil, err
	}
	purpose := kms.KeyPurpose(asked.Purpose)
	switch asked.Op {
	case "validate":
		version, err := engine.ValidateSchema(ctx)
		return &answer{Version: version}, err
	case "create":
		return &answer{}, s.create(ctx, asked)
	case "encrypt":
		blob, id, err := s.encrypt(ctx, asked.Scope, purpose, asked.Plaintext, asked.Aad)
		return &answer{Blob: blob, KeyVersion: id}, err
	case "decrypt":
		plaintext, err := s.decrypt(ctx, asked.Scope, purpose, asked.Blob, asked.Aad)
		return &answer{Plaintext: plaintext}, err
	case "derive":
		blob, id, err := s.encryptDerived(ctx, asked.Scope, purpose, asked.Plaintext, asked.ID)
		return &answer{Blob: blob, KeyVersion: id}, err
	case "records":
		records, err := s.makeRecords(ctx, asked.Scope, purpose, asked.Sizes)
		return &answer{Records: records}, err
	case "check":
		return &answer{}, s.check(ctx, asked.Records)
	case "rotate":
		return &answer{}, engine.RotateKeys(ctx, asked.Scope, kms.WithRewrap(asked.Rewrap))
	case "rewrap":
		return &answer{}, engine.RewrapKeys(ctx, asked.Scope)
	case "list":
		keys, err := engine.ListKeys(ctx, asked.Scope)
		return &answer{Keys: keys}, err
	case "revoke":
		return &answer{}, engine.RevokeKeyVersion(ctx, asked.ID)
	case "delete":
		// Go kms has no call for it: the row goes, and the rest by cascade.
		_, err := s.rw.Exec(ctx, fmt.Sprintf("delete from %s_root_key where scope_id = ?", s.settings.prefix), []any{asked.Scope})
		return &answer{}, err
	case "reconcile":
		return &answer{}, engine.ReconcileKeys(ctx, asked.Scopes, purposesOf(asked.Purposes))
	case "referencers":
		names, err := engine.ListDataKeyVersionReferencers(ctx)
		return &answer{Names: names}, err
	default:
		return nil, fmt.Errorf("unknown operation %q", asked.Op)
	}
}

// create makes the keys of a scope, in a transaction of the engine's or in one of ours.
func (s *system) create(ctx context.Context, asked *request) error {
	purposes := purposesOf(asked.Purposes)
	if !asked.InTx {
		return s.engine.CreateKeys(ctx, asked.Scope, purposes)
	}
	tx, err := s.rw.Begin(ctx)
	if err != nil {
		return err
	}
	if err := s.engine.CreateKeys(ctx, asked.Scope, purposes, kms.WithTx(tx)); err != nil {
		_ = tx.Rollback(ctx)
		return err
	}
	return tx.Commit(ctx)
}

// makeRecords encrypts random plaintexts of these sizes, each without aad and with one.
func (s *system) makeRecords(ctx context.Context, scope string, purpose kms.KeyPurpose, sizes []int) ([]record, error) {
	var records []record
	for _, size := range sizes {
		for _, aad := range [][]byte{nil, []byte(fmt.Sprintf("%s|%s|%d", scope, purpose, size))} {
			plaintext := make([]byte, size)
			if _, err := rand.Read(plaintext); err != nil {
				return nil, err
			}
			blob, _, err := s.encrypt(ctx, scope, purpose, plaintext, aad)
			if err != nil {
				return nil, err
			}
			records = append(records, record{scope, string(purpose), aad, plaintext, blob})
		}
	}
	return records, nil
}

// check decrypts all records, and holds each to its aad.
func (s *system) check(ctx context.Context, records []record) error {
	for number, r := range records {
		plaintext, err := s.decrypt(ctx, r.Scope, kms.KeyPurpose(r.Purpose), r.Blob, r.Aad)
		if err != nil {
			return fmt.Errorf("record %d of scope %s: %w", number, r.Scope, err)
		}
		if !bytes.Equal(plaintext, r.Plaintext) {
			return fmt.Errorf("record %d of scope %s decrypts to something else", number, r.Scope)
		}
		if _, err := s.decrypt(ctx, r.Scope, kms.KeyPurpose(r.Purpose), r.Blob, []byte("another aad")); err == nil {
			return fmt.Errorf("record %d of scope %s opens with another aad", number, r.Scope)
		}
	}
	return nil
}

func purposesOf(names []string) []kms.KeyPurpose {
	var purposes []kms.KeyPurpose
	for _, name := range names {
		purposes = append(purposes, kms.KeyPurpose(name))
	}
	return purposes
}
