"""The program that trains baselines of which no weights were released."""
