-- Ours. The version in which Postgres has functions that apply changes: there are none here.

update kms_extension_version set version = 'v5';
