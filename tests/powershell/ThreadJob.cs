// A job on a thread of this process, for Windows PowerShell 5.1, which has no Start-ThreadJob. C# 5.
using System.Management.Automation;
using System.Management.Automation.Runspaces;

namespace FarmTests
{
    public sealed class ThreadJob : Job
    {
        private readonly PowerShell shell = PowerShell.Create();

        public ThreadJob(string script, object[] arguments) : base(script)
        {
            shell.Runspace = RunspaceFactory.CreateRunspace();
            shell.AddScript(script);
            foreach (object argument in arguments)
            {
                shell.AddArgument(argument);
            }
            shell.Streams.Error = Error;
            shell.Streams.Warning = Warning;
            shell.InvocationStateChanged += OnStateChanged;
        }

        public void Start()
        {
            shell.Runspace.Open();
            SetJobState(JobState.Running);
            shell.BeginInvoke<PSObject, PSObject>(null, Output);
        }

        public override bool HasMoreData
        {
            get { return Output.Count > 0 || Error.Count > 0 || Warning.Count > 0; }
        }

        public override string Location
        {
            get { return "PowerShell"; }
        }

        public override string StatusMessage
        {
            get { return ""; }
        }

        public override void StopJob()
        {
            shell.Stop();
        }

        protected override void Dispose(bool disposing)
        {
            if (disposing)
            {
                shell.Dispose();
                shell.Runspace.Dispose();
            }
            base.Dispose(disposing);
        }

        private void OnStateChanged(object sender, PSInvocationStateChangedEventArgs change)
        {
            switch (change.InvocationStateInfo.State)
            {
                case PSInvocationState.Completed:
                    SetJobState(JobState.Completed);
                    break;
                case PSInvocationState.Failed:
                    SetJobState(JobState.Failed);
                    break;
                case PSInvocationState.Stopped:
                    SetJobState(JobState.Stopped);
                    break;
            }
        }
    }
}
