drop table oidc_client;
alter table kms_root_key drop constraint kms_root_key_organization_fkey;
drop table organization;
