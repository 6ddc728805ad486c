package main

import (
	"context"
	"encoding/hex"
	"fmt"
	"os"
	"strings"

	wrapping "github.com/hashicorp/go-kms-wrapping/v2"
	"github.com/hashicorp/go-kms-wrapping/v2/aead"
	awskms "github.com/hashicorp/go-kms-wrapping/wrappers/awskms/v2"
	transit "github.com/hashicorp/go-kms-wrapping/wrappers/transit/v2"
)

// rootKeyID is the id of the local root key on both sides.
const rootKeyID = "root"

// openRoot makes a root wrapper:
//
//	aead:HEX                    a local key
//	awskms:KEY                  a key of the service at KMS_TEST_AWS_ENDPOINT
//	transit:MOUNT/KEY[,PREFIX]  a key of the Vault at KMS_TEST_VAULT_ADDR, and the prefix of its key ids
func openRoot(ctx context.Context, spec string) (wrapping.Wrapper, error) {
	kind, rest, _ := strings.Cut(spec, ":")
	switch kind {
	case "":
		return nil, nil
	case "aead":
		key, err := hex.DecodeString(rest)
		if err != nil {
			return nil, err
		}
		wrapper := aead.NewWrapper()
		if _, err := wrapper.SetConfig(ctx, wrapping.WithKeyId(rootKeyID)); err != nil {
			return nil, err
		}
		return wrapper, wrapper.SetAesGcmKeyBytes(key)
	case "awskms":
		wrapper := awskms.NewWrapper()
		_, err := wrapper.SetConfig(ctx,
			wrapping.WithKeyId(rest),
			awskms.WithDisallowEnvVars(true),
			awskms.WithEndpoint(os.Getenv("KMS_TEST_AWS_ENDPOINT")),
			awskms.WithRegion("us-east-1"),
			awskms.WithAccessKey("test"),
			awskms.WithSecretKey("test"),
		)
		return wrapper, err
	case "transit":
		path, prefix, _ := strings.Cut(rest, ",")
		mount, key, _ := strings.Cut(path, "/")
		wrapper := transit.NewWrapper()
		_, err := wrapper.SetConfig(ctx,
			transit.WithAddress(os.Getenv("KMS_TEST_VAULT_ADDR")),
			transit.WithToken(os.Getenv("KMS_TEST_VAULT_TOKEN")),
			transit.WithMountPath(mount),
			transit.WithKeyName(key),
			transit.WithKeyIdPrefix(prefix),
			transit.WithDisableRenewal("true"),
		)
		return wrapper, err
	default:
		return nil, fmt.Errorf("unknown root %q", kind)
	}
}
