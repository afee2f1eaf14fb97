@{
    RootModule = 'FakeComputer.psm1'
    ModuleVersion = '99.0'
    FunctionsToExport = '*'
    CmdletsToExport = @()
    AliasesToExport = @()
}
