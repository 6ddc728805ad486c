drop table kms_campaign_failure;
drop table kms_campaign;
