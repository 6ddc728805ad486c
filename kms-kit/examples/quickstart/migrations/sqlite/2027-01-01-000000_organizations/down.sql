drop table oidc_client;
drop index kms_root_key_organization_id_ix;
alter table kms_root_key drop column organization_id;
drop table organization;
