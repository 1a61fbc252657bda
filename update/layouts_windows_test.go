package update_test

var systemLayouts []layout
