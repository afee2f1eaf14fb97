@{
    ModuleVersion = '2.0.0.0'
    GUID = 'af4bddd0-8583-4ff2-84b2-a33f5c8de8a8'
    Description = 'A stand-in for the Hyper-V module, to run scripts without a Hyper-V.'
    RootModule = 'Hyper-V.psm1'
    FunctionsToExport = '*'
    CmdletsToExport = @()
    AliasesToExport = @()
}
