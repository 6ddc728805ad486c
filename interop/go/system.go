package main

import (
	"context"
	"fmt"

	"github.com/hashicorp/go-dbw"
	kms "github.com/hashicorp/go-kms-wrapping/extras/kms/v2"
	wrapping "github.com/hashicorp/go-kms-wrapping/v2"
	"github.com/hashicorp/go-kms-wrapping/v2/aead"
	"google.golang.org/protobuf/proto"
)

// system is Go kms on one database. The engine is made when it is first needed, since migrating comes
// before it.
type system struct {
	settings *settings
	db       *dbw.DB
	rw       *dbw.RW
	root     wrapping.Wrapper
	engine   *kms.Kms
}

func open(ctx context.Context, s *settings) (*system, error) {
	root, err := openRoot(ctx, s.root)
	if err != nil {
		return nil, err
	}
	sys := &system{settings: s, root: root}
	if s.dsn == "" {
		return sys, nil
	}
	kind, err := dbw.StringToDbType(s.dialect)
	if err != nil {
		return nil, err
	}
	sys.db, err = dbw.Open(kind, s.dsn, dbw.WithMaxOpenConnections(s.connections))
	if err != nil {
		return nil, err
	}
	sys.db.LogLevel(dbw.Silent)
	pool, err := sys.db.SqlDB(ctx)
	if err != nil {
		return nil, err
	}
	// The default keeps two, and opens and closes the others all the time.
	pool.SetMaxIdleConns(s.connections)
	sys.rw = dbw.New(sys.db)
	return sys, nil
}

// kms is the engine.
func (s *system) kms(ctx context.Context) (*kms.Kms, error) {
	if s.engine != nil {
		return s.engine, nil
	}
	engine, err := s.anotherEngine(ctx)
	if err != nil {
		return nil, err
	}
	s.engine = engine
	return engine, nil
}

// anotherEngine has a cache of its own.
func (s *system) anotherEngine(ctx context.Context) (*kms.Kms, error) {
	if s.rw == nil {
		return nil, fmt.Errorf("started without a database")
	}
	engine, err := kms.New(s.rw, s.rw, s.settings.keyPurposes(), kms.WithTableNamePrefix(s.settings.prefix))
	if err != nil {
		return nil, err
	}
	if s.root != nil {
		if err := engine.AddExternalWrapper(ctx, kms.KeyPurposeRootKey, s.root); err != nil {
			return nil, err
		}
	}
	return engine, nil
}

func (s *system) encrypt(ctx context.Context, scope string, purpose kms.KeyPurpose, plaintext, aad []byte) (blob []byte, keyVersion string, err error) {
	engine, err := s.kms(ctx)
	if err != nil {
		return nil, "", err
	}
	wrapper, err := engine.GetWrapper(ctx, scope, purpose)
	if err != nil {
		return nil, "", err
	}
	return seal(ctx, wrapper, plaintext, aad)
}

// encryptDerived encrypts under a key that is derived from the data key's newest version, and that has an
// id of its own, or none.
func (s *system) encryptDerived(ctx context.Context, scope string, purpose kms.KeyPurpose, plaintext []byte, id string) (blob []byte, keyVersion string, err error) {
	engine, err := s.kms(ctx)
	if err != nil {
		return nil, "", err
	}
	pooled, err := engine.GetWrapper(ctx, scope, purpose)
	if err != nil {
		return nil, "", err
	}
	newest, err := pooled.KeyId(ctx)
	if err != nil {
		return nil, "", err
	}
	wrapper, err := engine.GetWrapper(ctx, scope, purpose, kms.WithKeyVersionId(newest))
	if err != nil {
		return nil, "", err
	}
	parent, ok := wrapper.(*aead.Wrapper)
	if !ok {
		return nil, "", fmt.Errorf("a data key version is a %T", wrapper)
	}
	derived, err := parent.NewDerivedWrapper(wrapping.WithKeyId(id))
	if err != nil {
		return nil, "", err
	}
	return seal(ctx, derived, plaintext, nil)
}

func (s *system) decrypt(ctx context.Context, scope string, purpose kms.KeyPurpose, blob, aad []byte) ([]byte, error) {
	engine, err := s.kms(ctx)
	if err != nil {
		return nil, err
	}
	info := new(wrapping.BlobInfo)
	if err := proto.Unmarshal(blob, info); err != nil {
		return nil, err
	}
	wrapper, err := engine.GetWrapper(ctx, scope, purpose, kms.WithKeyVersionId(info.GetKeyInfo().GetKeyId()))
	if err != nil {
		return nil, err
	}
	return wrapper.Decrypt(ctx, info, withAad(aad)...)
}

func seal(ctx context.Context, wrapper wrapping.Wrapper, plaintext, aad []byte) (blob []byte, keyID string, err error) {
	info, err := wrapper.Encrypt(ctx, plaintext, withAad(aad)...)
	if err != nil {
		return nil, "", err
	}
	blob, err = proto.Marshal(info)
	return blob, info.GetKeyInfo().GetKeyId(), err
}

func unseal(ctx context.Context, wrapper wrapping.Wrapper, blob, aad []byte) ([]byte, error) {
	info := new(wrapping.BlobInfo)
	if err := proto.Unmarshal(blob, info); err != nil {
		return nil, err
	}
	return wrapper.Decrypt(ctx, info, withAad(aad)...)
}

func withAad(aad []byte) []wrapping.Option {
	if len(aad) == 0 {
		return nil
	}
	return []wrapping.Option{wrapping.WithAad(aad)}
}
