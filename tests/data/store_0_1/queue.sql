BEGIN TRANSACTION;
CREATE TABLE superluigi_attempts (
	task INTEGER NOT NULL, 
	fence INTEGER NOT NULL, 
	number INTEGER NOT NULL, 
	outcome TEXT NOT NULL, 
	worker TEXT NOT NULL, 
	host TEXT NOT NULL, 
	started FLOAT, 
	ended FLOAT, 
	exit_code INTEGER, 
	error TEXT, 
	log TEXT, 
	PRIMARY KEY (task, fence)
);
CREATE TABLE superluigi_codes (
	digest TEXT NOT NULL, 
	pickle BLOB NOT NULL, 
	PRIMARY KEY (digest)
);
CREATE TABLE superluigi_edges (
	upstream INTEGER NOT NULL, 
	downstream INTEGER NOT NULL, 
	yielded INTEGER DEFAULT '0' NOT NULL, 
	PRIMARY KEY (upstream, downstream)
)
 WITHOUT ROWID

;
INSERT INTO "superluigi_edges" VALUES(1,7,0);
INSERT INTO "superluigi_edges" VALUES(2,7,0);
INSERT INTO "superluigi_edges" VALUES(3,7,0);
INSERT INTO "superluigi_edges" VALUES(4,7,0);
INSERT INTO "superluigi_edges" VALUES(5,7,0);
INSERT INTO "superluigi_edges" VALUES(6,7,0);
CREATE TABLE superluigi_meta (
	"key" TEXT NOT NULL, 
	value TEXT NOT NULL, 
	PRIMARY KEY ("key")
);
INSERT INTO "superluigi_meta" VALUES('version','3');
CREATE TABLE superluigi_need_items (
	need INTEGER NOT NULL, 
	resource TEXT NOT NULL, 
	amount FLOAT NOT NULL, 
	PRIMARY KEY (need, resource)
);
CREATE TABLE superluigi_needs (
	id INTEGER NOT NULL, 
	signature TEXT NOT NULL, 
	PRIMARY KEY (id), 
	UNIQUE (signature)
);
INSERT INTO "superluigi_needs" VALUES(0,'{}');
CREATE TABLE superluigi_pools (
	name TEXT NOT NULL, 
	max_workers INTEGER, 
	paused INTEGER DEFAULT '0' NOT NULL, 
	definition TEXT DEFAULT '{}' NOT NULL, 
	PRIMARY KEY (name)
);
INSERT INTO "superluigi_pools" VALUES('default',1,0,'{"max_workers": 1, "provider": "local", "environment": {}, "prefix": null, "walltime": null, "on_term": "requeue", "options": {}}');
CREATE TABLE superluigi_resources (
	name TEXT NOT NULL, 
	total FLOAT NOT NULL, 
	PRIMARY KEY (name)
);
CREATE TABLE superluigi_runs (
	id TEXT NOT NULL, 
	started FLOAT NOT NULL, 
	definition TEXT NOT NULL, 
	PRIMARY KEY (id)
);
INSERT INTO "superluigi_runs" VALUES('20261129T194605Z-00001ebc',1.79598156571582603458e+09,'{"id": "20261129T194605Z-00001ebc", "started": 1795981565.715826, "ids": [], "everything": false, "families": [], "force_local_download": false, "store": null, "options": {}, "surroundings": ["/tmp/superluigi-0.1", ["/tmp/superluigi-0.1", "/srv/superluigi-0.1"], null]}');
CREATE TABLE superluigi_spawners (
	pool TEXT NOT NULL, 
	id TEXT NOT NULL, 
	place TEXT NOT NULL, 
	lease FLOAT NOT NULL, 
	PRIMARY KEY (pool)
);
CREATE TABLE superluigi_tasks (
	id INTEGER NOT NULL, 
	task_id TEXT NOT NULL, 
	name TEXT NOT NULL, 
	module TEXT NOT NULL, 
	params TEXT NOT NULL, 
	code TEXT, 
	tags TEXT, 
	pool TEXT NOT NULL, 
	priority FLOAT DEFAULT '0' NOT NULL, 
	need INTEGER DEFAULT '0' NOT NULL, 
	timeout FLOAT, 
	max_failures INTEGER DEFAULT '1' NOT NULL, 
	retry_delay FLOAT DEFAULT '0' NOT NULL, 
	retry_window FLOAT, 
	retry_deadline FLOAT, 
	external INTEGER DEFAULT '0' NOT NULL, 
	run TEXT NOT NULL, 
	rerun TEXT, 
	state TEXT NOT NULL, 
	unmet INTEGER DEFAULT '0' NOT NULL, 
	due FLOAT, 
	fence INTEGER DEFAULT '0' NOT NULL, 
	lease FLOAT, 
	worker TEXT, 
	kill INTEGER DEFAULT '0' NOT NULL, 
	attempts INTEGER DEFAULT '0' NOT NULL, 
	failures INTEGER DEFAULT '0' NOT NULL, 
	losses INTEGER DEFAULT '0' NOT NULL, 
	started FLOAT, 
	ended FLOAT, 
	exit_code INTEGER, 
	error TEXT, 
	log TEXT, 
	PRIMARY KEY (id), 
	UNIQUE (task_id)
);
INSERT INTO "superluigi_tasks" VALUES(1,'Part_1_f4fe3360f0','Part','tasks_of_0_1','{"n": "1"}',NULL,NULL,'default',0.0,0,NULL,1,0.0,NULL,NULL,0,'20261129T194605Z-00001ebc',NULL,'SUCCEEDED',0,NULL,0,NULL,NULL,0,0,0,0,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "superluigi_tasks" VALUES(2,'Part_2_fbe666d9fe','Part','tasks_of_0_1','{"n": "2"}',NULL,NULL,'default',0.0,0,NULL,1,0.0,NULL,NULL,0,'20261129T194605Z-00001ebc',NULL,'SUCCEEDED',0,NULL,0,NULL,NULL,0,0,0,0,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "superluigi_tasks" VALUES(3,'Part_3_ab99dd1074','Part','tasks_of_0_1','{"n": "3"}',NULL,NULL,'default',0.0,0,NULL,1,0.0,NULL,NULL,0,'20261129T194605Z-00001ebc',NULL,'SUCCEEDED',0,NULL,0,NULL,NULL,0,0,0,0,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "superluigi_tasks" VALUES(4,'Part_4_293f28f5ff','Part','tasks_of_0_1','{"n": "4"}',NULL,NULL,'default',0.0,0,NULL,1,0.0,NULL,NULL,0,'20261129T194605Z-00001ebc',NULL,'PENDING',0,NULL,0,NULL,NULL,0,0,0,0,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "superluigi_tasks" VALUES(5,'Part_5_aa4f9f7fa3','Part','tasks_of_0_1','{"n": "5"}',NULL,NULL,'default',0.0,0,NULL,1,0.0,NULL,NULL,0,'20261129T194605Z-00001ebc',NULL,'PENDING',0,NULL,0,NULL,NULL,0,0,0,0,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "superluigi_tasks" VALUES(6,'Table__99914b932b','Table','tasks_of_0_1','{}',NULL,NULL,'default',0.0,0,NULL,1,0.0,NULL,NULL,0,'20261129T194605Z-00001ebc',NULL,'SUCCEEDED',0,NULL,0,NULL,NULL,0,0,0,0,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "superluigi_tasks" VALUES(7,'Whole_5_6ac48c2ac5','Whole','tasks_of_0_1','{"parts": "5"}',NULL,NULL,'default',0.0,0,NULL,1,0.0,NULL,NULL,0,'20261129T194605Z-00001ebc',NULL,'WAITING',2,NULL,0,NULL,NULL,0,0,0,0,NULL,NULL,NULL,NULL,NULL);
CREATE TABLE superluigi_workers (
	id TEXT NOT NULL, 
	pool TEXT NOT NULL, 
	place TEXT NOT NULL, 
	started FLOAT NOT NULL, 
	seen FLOAT NOT NULL, 
	stop INTEGER DEFAULT '0' NOT NULL, 
	PRIMARY KEY (id)
);
CREATE INDEX superluigi_tasks_state ON superluigi_tasks (state, pool);
CREATE INDEX superluigi_edges_down ON superluigi_edges (downstream);
CREATE INDEX superluigi_tasks_claim ON superluigi_tasks (pool, need, priority DESC, id) WHERE state = 'PENDING';
CREATE INDEX superluigi_tasks_due ON superluigi_tasks (due) WHERE due IS NOT NULL;
COMMIT;