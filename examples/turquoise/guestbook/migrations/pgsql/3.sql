ALTER TABLE entry DROP name;
