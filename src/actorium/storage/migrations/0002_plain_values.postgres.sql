-- Items and values are read far more often than they are written: unpacking them costs more than the disk they take.
ALTER TABLE dataset_blocks ALTER COLUMN items SET STORAGE EXTERNAL;
ALTER TABLE records ALTER COLUMN value SET STORAGE EXTERNAL;
