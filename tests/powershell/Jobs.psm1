# Jobs on a thread of this process, for stand-ins of cmdlets with -AsJob.

function Start-StandInJob {
    [CmdletBinding()]
    param([Parameter(Mandatory)] [scriptblock] $ScriptBlock, [object[]] $ArgumentList = @())
    if (Get-Command -Name Start-ThreadJob -ErrorAction SilentlyContinue) {
        return Start-ThreadJob -ThrottleLimit 1000 -ScriptBlock $ScriptBlock -ArgumentList $ArgumentList
    }
    # Windows PowerShell 5.1 has no Start-ThreadJob.
    if (-not ('FarmTests.ThreadJob' -as [type])) {
        Add-Type -TypeDefinition ([System.IO.File]::ReadAllText("$PSScriptRoot\ThreadJob.cs"))
    }
    # Receive-Job reports what is in the job's error stream, so an error that ends the block is written there.
    $code = 'param([string] $Text, [object[]] $Given)
        try { & ([scriptblock]::Create($Text)) @Given } catch { Write-Error -ErrorRecord $_ }'
    $job = [FarmTests.ThreadJob]::new($code, @("$ScriptBlock", $ArgumentList))
    $PSCmdlet.JobRepository.Add($job)
    $job.Start()
    $job
}
Export-ModuleMember -Function 'Start-StandInJob'
