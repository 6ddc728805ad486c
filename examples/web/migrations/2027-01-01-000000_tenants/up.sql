create table tenant (
  id text not null primary key
);

-- Keys go with their tenant. (SQLite adds no constraint to a table that exists, but a column with one.)
alter table kms_root_key add column tenant_id text
  generated always as (scope_id) virtual
  references tenant (id) on delete cascade;
create index kms_root_key_tenant_id_ix on kms_root_key (tenant_id);

-- A key version that encrypted a secret can't be revoked; both go together when the tenant does.
create table secret (
  tenant_id text not null references tenant (id) on delete cascade,
  name text not null,
  blob blob not null,
  key_version_id text not null references kms_data_key_version (private_id),
  primary key (tenant_id, name)
);
create index secret_key_version_id_ix on secret (key_version_id);
