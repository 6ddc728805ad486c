create table organization (
  id text primary key
);

-- Keys go with their organization.
alter table kms_root_key
  add constraint kms_root_key_organization_fkey
  foreign key (scope_id) references organization (id) on delete cascade;

-- A key version that encrypted a secret can't be revoked; both go together when the organization does.
create table oidc_client (
  id text primary key,
  organization_id text not null references organization (id) on delete cascade,
  secret bytea not null,
  key_version_id text not null references kms_data_key_version (private_id)
    on delete no action deferrable initially deferred
);
create index on oidc_client (organization_id);
create index on oidc_client (key_version_id);
