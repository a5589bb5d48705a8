module nbdextents

go 1.19
