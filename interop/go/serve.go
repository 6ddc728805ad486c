package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/hashicorp/go-dbw"
	kms "github.com/hashicorp/go-kms-wrapping/extras/kms/v2"
)

// request is one line of standard input. Bytes are base64.
type request struct {
	Op        string   `json:"op"`
	Scope     string   `json:"scope"`
	Scopes    []string `json:"scopes"`
	Purpose   string   `json:"purpose"`
	Purposes  []string `json:"purposes"`
	Plaintext []byte   `json:"plaintext"`
	Aad       []byte   `json:"aad"`
	Blob      []byte   `json:"blob"`
	ID        string   `json:"id"`
	Rewrap    bool     `json:"rewrap"`
	InTx      bool     `json:"in_tx"`
	Migrate   bool     `json:"golang_migrate"`
	UpTo      uint     `json:"up_to"`
	Sizes     []int    `json:"sizes"`
	Records   []record `json:"records"`
}

// record is something that one side encrypted and the other is to read.
type record struct {
	Scope     string `json:"scope"`
	Purpose   string `json:"purpose"`
	Aad       []byte `json:"aad"`
	Plaintext []byte `json:"plaintext"`
	Blob      []byte `json:"blob"`
}

// answer is one line of standard output.
type answer struct {
	OK         bool      `json:"ok"`
	Kind       string    `json:"kind,omitempty"`
	Error      string    `json:"error,omitempty"`
	Plaintext  []byte    `json:"plaintext,omitempty"`
	Blob       []byte    `json:"blob,omitempty"`
	KeyVersion string    `json:"key_version,omitempty"`
	Keys       []kms.Key `json:"keys,omitempty"`
	Records    []record  `json:"records,omitempty"`
	Names      []string  `json:"names,omitempty"`
	Version    string    `json:"version,omitempty"`
}

func serve(ctx context.Context, s *settings, in io.Reader, out io.Writer) error {
	sys, err := open(ctx, s)
	if err != nil {
		return err
	}
	lines := bufio.NewReaderSize(in, 1<<20)
	answers := json.NewEncoder(out)
	for {
		line, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) && len(bytes.TrimSpace(line)) == 0 {
			return nil
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		var asked request
		if err := json.Unmarshal(line, &asked); err != nil {
			return fmt.Errorf("not a request: %w", err)
		}
		given, err := sys.obey(ctx, &asked)
		if err != nil {
			given = &answer{Kind: kindOf(err), Error: err.Error()}
		} else {
			given.OK = true
		}
		if err := answers.Encode(given); err != nil {
			return err
		}
	}
}

// kindOf sorts failures, by the module's own errors and by SQLSTATE.
func kindOf(err error) string {
	var state interface{ SQLState() string }
	switch {
	case errors.As(err, &state):
		return state.SQLState()
	case errors.Is(err, kms.ErrInvalidVersion):
		return "version"
	case errors.Is(err, kms.ErrInvalidParameter):
		return "parameter"
	case errors.Is(err, kms.ErrKeyNotFound), errors.Is(err, kms.ErrRecordNotFound), errors.Is(err, dbw.ErrRecordNotFound):
		return "not found"
	default:
		return "other"
	}
}
