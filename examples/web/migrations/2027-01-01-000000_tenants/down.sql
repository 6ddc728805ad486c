drop table secret;
drop index kms_root_key_tenant_id_ix;
alter table kms_root_key drop column tenant_id;
drop table tenant;
