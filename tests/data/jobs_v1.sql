BEGIN TRANSACTION;
CREATE TABLE jobs (
            id TEXT PRIMARY KEY,
            variant TEXT NOT NULL,
            status TEXT NOT NULL,
            created_at DOUBLE PRECISION NOT NULL,
            not_before DOUBLE PRECISION NOT NULL,
            lease_expires_at DOUBLE PRECISION,
            token BIGINT NOT NULL,
            version BIGINT NOT NULL,
            body TEXT NOT NULL
        );
INSERT INTO "jobs" VALUES('00000000000000000000000000000000','small-sfx','succeeded',1000.125,1000.125,NULL,1,2,'{"id":"00000000000000000000000000000000","request":{"model":"small-sfx","prompt":"rain ☁ 0","negative_prompt":null,"duration":1.0,"steps":8,"cfg_scale":1.0,"seed":0,"format":"wav","chunked_decode":null},"status":"succeeded","created_at":1000.125,"started_at":1100.0,"completed_at":1101.1,"not_before":1000.125,"attempts":1,"token":1,"lease":null,"cancel_requested":false,"progress":1.0,"result":{"audio":{"engine":"procedural","sample_rate":44100,"channels":2,"duration":1.0,"format":"wav","generation_seconds":0.5},"object":{"backend":"local","key":"a.wav","size":4,"sha256":"0000000000000000000000000000000000000000000000000000000000000000"},"upload_seconds":0.1},"error":null,"version":2}');
INSERT INTO "jobs" VALUES('00000000000000000000000000000001','small-sfx','failed',1001.125,1001.125,NULL,1,2,'{"id":"00000000000000000000000000000001","request":{"model":"small-sfx","prompt":"rain ☁ 1","negative_prompt":null,"duration":1.0,"steps":8,"cfg_scale":1.0,"seed":1,"format":"wav","chunked_decode":null},"status":"failed","created_at":1001.125,"started_at":1100.0,"completed_at":1102.2,"not_before":1001.125,"attempts":1,"token":1,"lease":null,"cancel_requested":false,"progress":0.0,"result":null,"error":{"code":"generation_failed","message":"It \"failed\" at 100%: {'':x''} ☁"},"version":2}');
INSERT INTO "jobs" VALUES('00000000000000000000000000000002','small-sfx','cancelled',1002.125,1002.125,NULL,1,3,'{"id":"00000000000000000000000000000002","request":{"model":"small-sfx","prompt":"rain ☁ 2","negative_prompt":null,"duration":1.0,"steps":8,"cfg_scale":1.0,"seed":2,"format":"wav","chunked_decode":null},"status":"cancelled","created_at":1002.125,"started_at":1100.0,"completed_at":1103.3,"not_before":1002.125,"attempts":1,"token":1,"lease":null,"cancel_requested":true,"progress":0.0,"result":null,"error":null,"version":3}');
INSERT INTO "jobs" VALUES('00000000000000000000000000000003','small-sfx','running',1003.125,1003.125,1130.0,1,1,'{"id":"00000000000000000000000000000003","request":{"model":"small-sfx","prompt":"rain ☁ 3","negative_prompt":null,"duration":1.0,"steps":8,"cfg_scale":1.0,"seed":3,"format":"wav","chunked_decode":null},"status":"running","created_at":1003.125,"started_at":1100.0,"completed_at":null,"not_before":1003.125,"attempts":1,"token":1,"lease":{"token":1,"worker":"w1","expires_at":1130.0},"cancel_requested":false,"progress":0.0,"result":null,"error":null,"version":1}');
INSERT INTO "jobs" VALUES('00000000000000000000000000000004','small-sfx','cancelled',1004.125,1004.125,NULL,0,1,'{"id":"00000000000000000000000000000004","request":{"model":"small-sfx","prompt":"rain ☁ 4","negative_prompt":null,"duration":1.0,"steps":8,"cfg_scale":1.0,"seed":4,"format":"wav","chunked_decode":null},"status":"cancelled","created_at":1004.125,"started_at":null,"completed_at":1104.4,"not_before":1004.125,"attempts":0,"token":0,"lease":null,"cancel_requested":false,"progress":0.0,"result":null,"error":null,"version":1}');
INSERT INTO "jobs" VALUES('00000000000000000000000000000005','small-sfx','queued',1005.125,1005.125,NULL,0,0,'{"id":"00000000000000000000000000000005","request":{"model":"small-sfx","prompt":"rain ☁ 5","negative_prompt":null,"duration":1.0,"steps":8,"cfg_scale":1.0,"seed":5,"format":"wav","chunked_decode":null},"status":"queued","created_at":1005.125,"started_at":null,"completed_at":null,"not_before":1005.125,"attempts":0,"token":0,"lease":null,"cancel_requested":false,"progress":0.0,"result":null,"error":null,"version":0}');
INSERT INTO "jobs" VALUES('00000000000000000000000000000006','small-sfx','queued',1006.125,1006.125,NULL,0,0,'{"id":"00000000000000000000000000000006","request":{"model":"small-sfx","prompt":"rain ☁ 6","negative_prompt":null,"duration":1.0,"steps":8,"cfg_scale":1.0,"seed":6,"format":"wav","chunked_decode":null},"status":"queued","created_at":1006.125,"started_at":null,"completed_at":null,"not_before":1006.125,"attempts":0,"token":0,"lease":null,"cancel_requested":false,"progress":0.0,"result":null,"error":null,"version":0}');
CREATE TABLE schema_version (version BIGINT NOT NULL);
INSERT INTO "schema_version" VALUES(1);
CREATE INDEX jobs_queue ON jobs (variant, status, created_at, id, not_before);
CREATE INDEX jobs_age ON jobs (created_at, id);
CREATE INDEX jobs_status ON jobs (status, created_at, id);
CREATE INDEX jobs_variant ON jobs (variant, created_at, id);
CREATE INDEX jobs_lease ON jobs (lease_expires_at) WHERE lease_expires_at IS NOT NULL;
COMMIT;
