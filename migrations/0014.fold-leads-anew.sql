-- Folded everything anew in one transaction. 0016 does it in many; installations know this id.
SELECT 1;
