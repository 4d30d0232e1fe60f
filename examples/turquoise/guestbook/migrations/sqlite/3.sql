CREATE TABLE parted (
	id integer PRIMARY KEY AUTOINCREMENT,
	first text NOT NULL,
	last text NOT NULL CHECK (last <> ''),
	message text NOT NULL
);
INSERT INTO parted SELECT id, first, last, message FROM entry;
DROP TABLE entry;
ALTER TABLE parted RENAME TO entry;
