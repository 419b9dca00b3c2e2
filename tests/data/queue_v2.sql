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
INSERT INTO "superluigi_attempts" VALUES(1,1,1,'SUCCEEDED','ada-box-17008-378067-c892acf7431c','ada-box',1.79562603801971936226e+09,1.7956260389334380627e+09,0,NULL,'/home/ada/pi/old.logs/Draw/Draw_0_77b90a8628/1/stdout.log');
INSERT INTO "superluigi_attempts" VALUES(2,1,1,'SUCCEEDED','ada-box-17008-378067-0f9813c2fff8','ada-box',1.79562603898768067363e+09,1.79562603989940690989e+09,0,NULL,'/home/ada/pi/old.logs/Draw/Draw_1_70f3573dac/1/stdout.log');
INSERT INTO "superluigi_attempts" VALUES(3,1,1,'FAILED','ada-box-17008-378067-efa28c147d9c','ada-box',1.79562603994161057475e+09,1.79562604092451262474e+09,1,'Traceback (most recent call last):
  File "/opt/superluigi/scheduling/attempt.py", line 165, in _attempt
    requirements = self._exhaust()
                   ^^^^^^^^^^^^^^^
  File "/opt/superluigi/scheduling/attempt.py", line 211, in _exhaust
    steps = self.task.run()
            ^^^^^^^^^^^^^^^
  File "/home/ada/pi/oldpi.py", line 7, in run
    if self.seed == 2: raise ValueError(''seed two'')
                       ^^^^^^^^^^^^^^^^^^^^^^^^^^^^
ValueError: seed two','/home/ada/pi/old.logs/Draw/Draw_2_098cc98c28/1/stdout.log');
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
INSERT INTO "superluigi_edges" VALUES(1,4,0);
INSERT INTO "superluigi_edges" VALUES(2,4,0);
INSERT INTO "superluigi_edges" VALUES(3,4,0);
CREATE TABLE superluigi_meta (
	"key" TEXT NOT NULL, 
	value TEXT NOT NULL, 
	PRIMARY KEY ("key")
);
INSERT INTO "superluigi_meta" VALUES('version','2');
CREATE TABLE superluigi_need_items (
	need INTEGER NOT NULL, 
	resource TEXT NOT NULL, 
	amount FLOAT NOT NULL, 
	PRIMARY KEY (need, resource)
);
INSERT INTO "superluigi_need_items" VALUES(1,'gun',1.0);
CREATE TABLE superluigi_needs (
	id INTEGER NOT NULL, 
	signature TEXT NOT NULL, 
	PRIMARY KEY (id), 
	UNIQUE (signature)
);
INSERT INTO "superluigi_needs" VALUES(0,'{}');
INSERT INTO "superluigi_needs" VALUES(1,'{"gun": 1.0}');
CREATE TABLE superluigi_pools (
	name TEXT NOT NULL, 
	max_workers INTEGER, 
	paused INTEGER DEFAULT '0' NOT NULL, 
	definition TEXT DEFAULT '{}' NOT NULL, 
	PRIMARY KEY (name)
);
INSERT INTO "superluigi_pools" VALUES('draws',3,0,'{"max_workers": 3, "provider": "local", "environment": {}, "prefix": null, "walltime": null, "on_term": "requeue", "options": {}}');
INSERT INTO "superluigi_pools" VALUES('default',NULL,0,'{"max_workers": null, "provider": "local", "environment": {}, "prefix": null, "walltime": null, "on_term": "requeue", "options": {}}');
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
INSERT INTO "superluigi_runs" VALUES('20261125T170037Z-ceffd3fd',1.79562603794131207465e+09,'{"id": "20261125T170037Z-ceffd3fd", "started": 1795626037.941312, "ids": [], "everything": false, "families": [], "force_local_download": false, "store": null, "options": {}, "surroundings": ["/home/ada/pi", ["/home/ada/pi", "/tmp/queue/old", "/tmp/queue", "/home/ada/.venv/lib/python3.11/site-packages"], null]}');
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
INSERT INTO "superluigi_tasks" VALUES(1,'Draw_0_77b90a8628','Draw','oldpi','{"seed": "0"}',NULL,NULL,'draws',0.0,0,NULL,1,0.0,0,'20261125T170037Z-ceffd3fd',NULL,'SUCCEEDED',0,NULL,1,NULL,'ada-box-17008-378067-c892acf7431c',0,1,0,0,1.79562603801971936226e+09,1.7956260389334380627e+09,0,NULL,'/home/ada/pi/old.logs/Draw/Draw_0_77b90a8628/1/stdout.log');
INSERT INTO "superluigi_tasks" VALUES(2,'Draw_1_70f3573dac','Draw','oldpi','{"seed": "1"}',NULL,NULL,'draws',0.0,0,NULL,1,0.0,0,'20261125T170037Z-ceffd3fd',NULL,'SUCCEEDED',0,NULL,1,NULL,'ada-box-17008-378067-0f9813c2fff8',0,1,0,0,1.79562603898768067363e+09,1.79562603989940690989e+09,0,NULL,'/home/ada/pi/old.logs/Draw/Draw_1_70f3573dac/1/stdout.log');
INSERT INTO "superluigi_tasks" VALUES(3,'Draw_2_098cc98c28','Draw','oldpi','{"seed": "2"}',NULL,NULL,'draws',0.0,0,NULL,1,0.0,0,'20261125T170037Z-ceffd3fd',NULL,'FAILED',0,NULL,1,NULL,'ada-box-17008-378067-efa28c147d9c',0,1,1,0,1.79562603994161057475e+09,1.79562604092451262474e+09,1,'Traceback (most recent call last):
  File "/opt/superluigi/scheduling/attempt.py", line 165, in _attempt
    requirements = self._exhaust()
                   ^^^^^^^^^^^^^^^
  File "/opt/superluigi/scheduling/attempt.py", line 211, in _exhaust
    steps = self.task.run()
            ^^^^^^^^^^^^^^^
  File "/home/ada/pi/oldpi.py", line 7, in run
    if self.seed == 2: raise ValueError(''seed two'')
                       ^^^^^^^^^^^^^^^^^^^^^^^^^^^^
ValueError: seed two','/home/ada/pi/old.logs/Draw/Draw_2_098cc98c28/1/stdout.log');
INSERT INTO "superluigi_tasks" VALUES(4,'Average__99914b932b','Average','oldpi','{}',NULL,NULL,'default',0.0,1,NULL,1,0.0,0,'20261125T170037Z-ceffd3fd',NULL,'WAITING',1,NULL,0,NULL,NULL,0,0,0,0,NULL,NULL,NULL,NULL,NULL);
CREATE TABLE superluigi_workers (
	id TEXT NOT NULL, 
	pool TEXT NOT NULL, 
	place TEXT NOT NULL, 
	started FLOAT NOT NULL, 
	seen FLOAT NOT NULL, 
	stop INTEGER DEFAULT '0' NOT NULL, 
	PRIMARY KEY (id)
);
CREATE INDEX superluigi_tasks_due ON superluigi_tasks (due) WHERE due IS NOT NULL;
CREATE INDEX superluigi_tasks_state ON superluigi_tasks (state, pool);
CREATE INDEX superluigi_tasks_claim ON superluigi_tasks (pool, need, priority DESC, id) WHERE state = 'PENDING';
CREATE INDEX superluigi_edges_down ON superluigi_edges (downstream);
COMMIT;
