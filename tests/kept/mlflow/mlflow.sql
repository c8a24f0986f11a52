CREATE TABLE "experiments" (
	experiment_id INTEGER NOT NULL, 
	name VARCHAR(256) NOT NULL, 
	artifact_location VARCHAR(256), 
	lifecycle_stage VARCHAR(32), 
	creation_time BIGINT, 
	last_update_time BIGINT, 
	workspace VARCHAR(63) DEFAULT 'default' NOT NULL, 
	CONSTRAINT experiment_pk PRIMARY KEY (experiment_id), 
	CONSTRAINT experiments_lifecycle_stage CHECK (lifecycle_stage IN ('active', 'deleted')), 
	CONSTRAINT uq_experiments_workspace_name UNIQUE (workspace, name)
);
insert into experiments values (0, 'Default', '/srv/mlflow/mlruns/0', 'active', 1796070808832, 1796070808832, 'default');
insert into experiments values (1, 'wine', '/srv/mlflow/mlruns/1', 'active', 1796070808834, 1796070808834, 'default');
CREATE TABLE "runs" (
	run_uuid VARCHAR(32) NOT NULL, 
	name VARCHAR(250), 
	source_type VARCHAR(20), 
	source_name VARCHAR(500), 
	entry_point_name VARCHAR(50), 
	user_id VARCHAR(256), 
	status VARCHAR(9), 
	start_time BIGINT, 
	end_time BIGINT, 
	source_version VARCHAR(50), 
	lifecycle_stage VARCHAR(20), 
	artifact_uri VARCHAR(200), 
	experiment_id INTEGER, deleted_time BIGINT, 
	CONSTRAINT run_pk PRIMARY KEY (run_uuid), 
	CONSTRAINT source_type CHECK (source_type IN ('NOTEBOOK', 'JOB', 'LOCAL', 'UNKNOWN', 'PROJECT')), 
	CONSTRAINT runs_lifecycle_stage CHECK (lifecycle_stage IN ('active', 'deleted')), 
	FOREIGN KEY(experiment_id) REFERENCES experiments (experiment_id), 
	CHECK (status IN ('SCHEDULED', 'FAILED', 'FINISHED', 'RUNNING', 'KILLED'))
);
insert into runs values ('e19193255276495fa92836d71bf09d2a', 'run-0', 'UNKNOWN', '', '', 'unknown', 'FINISHED', 1700000000000, 1700000003000, '', 'active', '/srv/mlflow/mlruns/1/e19193255276495fa92836d71bf09d2a/artifacts', 1, null);
insert into runs values ('76161effb44847b5a42329b34d7dbf66', 'run-1', 'UNKNOWN', '', '', 'unknown', 'FAILED', 1700000000001, 1700000003001, '', 'active', '/srv/mlflow/mlruns/1/76161effb44847b5a42329b34d7dbf66/artifacts', 1, null);
CREATE TABLE "params" (
	"key" VARCHAR(250) NOT NULL, 
	value VARCHAR(8000) NOT NULL, 
	run_uuid VARCHAR(32) NOT NULL, 
	CONSTRAINT param_pk PRIMARY KEY ("key", run_uuid), 
	FOREIGN KEY(run_uuid) REFERENCES runs (run_uuid)
);
insert into params values ('learning_rate', '0.1', 'e19193255276495fa92836d71bf09d2a');
insert into params values ('model.depth', '3', 'e19193255276495fa92836d71bf09d2a');
insert into params values ('learning_rate', '0.05', '76161effb44847b5a42329b34d7dbf66');
insert into params values ('model.depth', '4', '76161effb44847b5a42329b34d7dbf66');
CREATE TABLE "metrics" (
	"key" VARCHAR(250) NOT NULL, 
	value FLOAT NOT NULL, 
	timestamp BIGINT NOT NULL, 
	run_uuid VARCHAR(32) NOT NULL, 
	step BIGINT DEFAULT '0' NOT NULL, 
	is_nan BOOLEAN DEFAULT '0' NOT NULL, 
	CONSTRAINT metric_pk PRIMARY KEY ("key", timestamp, step, run_uuid, value, is_nan), 
	FOREIGN KEY(run_uuid) REFERENCES runs (run_uuid), 
	CHECK (is_nan IN (0, 1))
);
insert into metrics values ('train_loss', 1.0, 1700000001000, 'e19193255276495fa92836d71bf09d2a', 0, 0);
insert into metrics values ('val_loss', 2.0, 1700000001000, 'e19193255276495fa92836d71bf09d2a', 0, 0);
insert into metrics values ('train_loss', 0.5, 1700000001001, 'e19193255276495fa92836d71bf09d2a', 10, 0);
insert into metrics values ('val_loss', 1.0, 1700000001001, 'e19193255276495fa92836d71bf09d2a', 10, 0);
insert into metrics values ('train_loss', 0.3333333333333333, 1700000001002, 'e19193255276495fa92836d71bf09d2a', 20, 0);
insert into metrics values ('val_loss', 0.6666666666666666, 1700000001002, 'e19193255276495fa92836d71bf09d2a', 20, 0);
insert into metrics values ('test/accuracy', 0.9, 1700000002000, 'e19193255276495fa92836d71bf09d2a', 20, 0);
insert into metrics values ('train_loss', 0.5, 1700000001000, '76161effb44847b5a42329b34d7dbf66', 0, 0);
insert into metrics values ('val_loss', 1.0, 1700000001000, '76161effb44847b5a42329b34d7dbf66', 0, 0);
insert into metrics values ('train_loss', 0.3333333333333333, 1700000001001, '76161effb44847b5a42329b34d7dbf66', 10, 0);
insert into metrics values ('val_loss', 0.6666666666666666, 1700000001001, '76161effb44847b5a42329b34d7dbf66', 10, 0);
insert into metrics values ('train_loss', 0.25, 1700000001002, '76161effb44847b5a42329b34d7dbf66', 20, 0);
insert into metrics values ('val_loss', 0.5, 1700000001002, '76161effb44847b5a42329b34d7dbf66', 20, 0);
insert into metrics values ('test/accuracy', 0.8, 1700000002000, '76161effb44847b5a42329b34d7dbf66', 20, 0);
CREATE TABLE "tags" (
	"key" VARCHAR(250) NOT NULL, 
	value VARCHAR(8000), 
	run_uuid VARCHAR(32) NOT NULL, 
	CONSTRAINT tag_pk PRIMARY KEY ("key", run_uuid), 
	FOREIGN KEY(run_uuid) REFERENCES runs (run_uuid)
);
insert into tags values ('mlflow.runName', 'run-0', 'e19193255276495fa92836d71bf09d2a');
insert into tags values ('team', 'red', 'e19193255276495fa92836d71bf09d2a');
insert into tags values ('mlflow.runName', 'run-1', '76161effb44847b5a42329b34d7dbf66');
insert into tags values ('team', 'red', '76161effb44847b5a42329b34d7dbf66');
