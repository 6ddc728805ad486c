create table organization (
  id text not null primary key
);

-- Keys go with their organization. (SQLite adds no constraint to a table that exists, but a column with one.)
alter table kms_root_key add column organization_id text
  generated always as (scope_id) virtual
  references organization (id) on delete cascade;
create index kms_root_key_organization_id_ix on kms_root_key (organization_id);

-- A key version that encrypted a secret can't be revoked; both go together when the organization does.
create table oidc_client (
  id text not null primary key,
  organization_id text not null references organization (id) on delete cascade,
  secret blob not null,
  key_version_id text not null references kms_data_key_version (private_id)
);
create index oidc_client_organization_id_ix on oidc_client (organization_id);
create index oidc_client_key_version_id_ix on oidc_client (key_version_id);
